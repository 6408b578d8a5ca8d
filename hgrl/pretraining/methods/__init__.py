"""Methods that pretrain a network: one file each, one interface, one registry line.

A method is a module with a `network` (whose features every evaluation reads) and `loss(batch) -> (loss,
diagnostics)`.
The loop knows nothing else about it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from hgrl.core.errors import InputError
from hgrl.core.settings import Settings
from hgrl.pretraining.methods.base import Method
from hgrl.pretraining.methods.densecl import DenseCL
from hgrl.pretraining.methods.hierarchical import HierarchicalGrouping
from hgrl.pretraining.methods.hierarchical_best import HierarchicalBest
from hgrl.pretraining.methods.hierarchical_image import HierarchicalImage
from hgrl.pretraining.methods.instfeat import InstFeat
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
    "hierarchical-best": HierarchicalBest,
    "supervised": ImageLabels,
}

__all__ = ["REGISTRY", "Method", "build_method", "method_files"]


def build_method(name: str, settings: Settings) -> Method:
    """A method with fresh weights from torch's global random state; InputError for an unknown name."""
    if name not in REGISTRY:
        raise InputError(f"params.yaml: unknown method {name!r}; choose one of: {', '.join(REGISTRY)}")
    return REGISTRY[name](settings)


def method_files(name: str) -> list[Path]:
    """The files that decide what a method does: its own, and all of this package that it imports from.

    A new method or a change of one leaves the checkpoints of the others as they are.
    """
    found: dict[str, Path] = {}
    waiting = [REGISTRY[name].__module__]
    while waiting:
        module = waiting.pop()
        if module.startswith(f"{__name__}.") and module not in found:
            contents = vars(sys.modules[module])
            found[module] = Path(contents["__file__"])
            waiting += [getattr(value, "__module__", None) or "" for value in contents.values()]
    return [found[module] for module in sorted(found)]
