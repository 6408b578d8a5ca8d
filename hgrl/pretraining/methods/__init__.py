"""Methods that pretrain a network: one file each, one interface, one registry line.

Evaluations read a method's `network`, the loop its `loss` and attributes; its settings stand in its file."""

from collections.abc import Collection, Iterable

from hgrl.core import paths
from hgrl.core.errors import InputError
from hgrl.core.experiment import Experiment
from hgrl.core.settings import Settings
from hgrl.pretraining.methods.base import Method, method_settings
from hgrl.pretraining.methods.colorization import Colorization
from hgrl.pretraining.methods.crw import CRW
from hgrl.pretraining.methods.cycletime import CycleTime
from hgrl.pretraining.methods.deepcluster import DeepCluster
from hgrl.pretraining.methods.densecl import DenseCL
from hgrl.pretraining.methods.detcon import DetCon
from hgrl.pretraining.methods.flownetc import FlowNetC
from hgrl.pretraining.methods.hierarchical import HierarchicalGrouping
from hgrl.pretraining.methods.hierarchical_image import HierarchicalImage
from hgrl.pretraining.methods.hsg import HSG
from hgrl.pretraining.methods.instfeat import InstFeat
from hgrl.pretraining.methods.mgpff import MGPFF
from hgrl.pretraining.methods.moco import MoCo
from hgrl.pretraining.methods.segsort import SegSort
from hgrl.pretraining.methods.supervised import ImageLabels

REGISTRY: dict[str, type[Method]] = {
    "hierarchical": HierarchicalGrouping,
    "moco": MoCo,
    "instfeat": InstFeat,
    "segsort": SegSort,
    "hierarchical-image": HierarchicalImage,
    "densecl": DenseCL,
    "detcon": DetCon,
    "hsg": HSG,
    "supervised": ImageLabels,
    "deepcluster": DeepCluster,
    "colorization": Colorization,
    "cycletime": CycleTime,
    "crw": CRW,
    "flownetc": FlowNetC,
    "mgpff": MGPFF,
}


def method_class(name: str) -> type[Method]:
    """The class of a method; InputError for an unknown name."""
    _require_known([name], REGISTRY, f"{paths.PARAMS}: a run's method")
    return REGISTRY[name]


def build_method(name: str, settings: Settings) -> Method:
    """A method with fresh weights from torch's global random state; InputError for an unknown name."""
    return method_class(name)(settings)


def check_methods(experiment: Experiment) -> None:
    """Raise InputError, which names file, key, value and what is allowed, for a mistake about methods:
    under the profile's `methods` and `tuned`, and params.yaml's `tuning` and `runs`."""
    file, tuning = paths.profile_file(experiment.profile), experiment.params.get("tuning") or {}
    methods = dict.fromkeys([*REGISTRY, *(run.method for run in experiment.definitions.values())])
    _require_known(experiment.settings.tuned, methods, f"{file}: setting 'tuned'")
    _require_known(tuning, REGISTRY, f"{paths.PARAMS}: section 'tuning'")
    _check_own(experiment.settings, str(file))
    layers = [(f"{file}: tuned.{method}", own) for method, own in experiment.settings.tuned.items()]
    layers += [(f"{paths.PARAMS}: tuning.{method}", own) for method in tuning for own in tuning[method]]
    for origin, overrides in layers:
        _check_own(experiment.settings_with(overrides, origin=origin), origin)
    for run in experiment.definitions:
        _check_own(experiment.run(run).settings, f"{paths.PARAMS}: runs.{run}")


def _check_own(settings: Settings, origin: str) -> None:
    known = dict(method.own for method in REGISTRY.values() if method.own)
    _require_known(settings.methods, known, f"{origin}: setting 'methods'")
    for key, section in known.items():
        method_settings(settings, key, section, origin)


def _require_known(names: Iterable[str], known: Collection[str], what: str) -> None:
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"{what}: unknown method {unknown[0]!r}; choose one of: {', '.join(known)}")
