"""An experiment: one profile, loaded once, with its settings, its runs and its files.

A profile (`profiles/<name>.yaml`) lists what differs from the paper. A run (`params.yaml`, section `runs`) is
a named method and what it overrides; one list of runs serves all profiles."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from hgrl.core import paths
from hgrl.core.data_settings import Section
from hgrl.core.errors import InputError
from hgrl.core.loading import load_yaml, overridden, validated
from hgrl.core.paths import Files
from hgrl.core.settings import Settings

NOT_IN_PROFILE = "not in this profile"
MISSING_DATA = "data set missing"
RUN_LISTS = ("trained", "trained_hed", "probe", "retrieval", "tracking")
EXTRA_LISTS = ("trained", "probe", "retrieval", "tracking", "convergence")  # of `extras`
READ_WEIGHTS = (  # methods whose network is their authors': hgrl/evaluation/weights.py, trackers/raft.py
    *("imagenet", "moco-resnet50", "timecycle-resnet50", "crw-resnet18"),
    *("deepcluster-vgg16", "deepcluster-alexnet", "raft"),
)
PARAMS_KEYS = ("profile", "runs", *RUN_LISTS, paths.EXTRAS, "sweep", "ablations", "tuning")


class RunDefinition(Section):
    """A run as `params.yaml` writes it."""

    method: str  # a name in `hgrl.pretraining.methods.REGISTRY`, a feature baseline or a tracker
    end_to_end: bool = False  # the probe also trains the backbone
    # one of the profile's `groupings`, whose trees it learns from; None: those of `grouping` itself
    grouping: str | None = None
    # the run whose checkpoints this one evaluates in another way; it trains none of its own
    checkpoint_of: str | None = None
    weights: str | None = None  # of methods in READ_WEIGHTS: the authors' file, below the folder of data sets
    # the only profiles whose data it makes sense with; the others leave it out. None: all
    profiles: tuple[str, ...] | None = None
    overrides: dict[str, Any] = Field({})  # dotted setting -> value, e.g. {"sampling.cns": [5, 20]}


@dataclass(frozen=True)
class Run:
    """A run of one profile. Its checkpoints, scores and table rows go by its name."""

    name: str
    definition: RunDefinition
    # the profile's; over them the run's grouping, what its method was tuned to, its overrides, those that the
    # profile has for it, its further seeds
    settings: Settings

    @property
    def method(self) -> str:
        return self.definition.method

    @property
    def trained(self) -> str:
        """The run whose checkpoints this one reads: its own, or those of `checkpoint_of`."""
        return self.definition.checkpoint_of or self.name


@dataclass(frozen=True)
class Experiment:
    """Everything that a stage needs to know of a profile."""

    profile: str
    settings: Settings  # the profile's own
    definitions: dict[str, RunDefinition]
    params: dict[str, Any]  # params.yaml
    files: Files
    content: dict[str, Any]  # the profile's file

    @property
    def data_root(self) -> Path:
        """The folder that the profile's sources lie in: its own scenes, or `HGRL_DATA`."""
        return self.files.data if self.settings.data.scenes is not None else paths.data_root()

    def definition(self, run: str) -> RunDefinition:
        if run not in self.definitions:
            known = ", ".join(self.definitions)
            raise InputError(f"{paths.PARAMS}: no run named {run!r}; choose one of: {known}")
        return self.definitions[run]

    def run(self, name: str) -> Run:
        """A run with its settings; InputError blames the right file for an unknown name or a bad setting."""
        definition, file = self.definition(name), paths.profile_file(self.profile)
        layers = [(self.settings.tuned.get(definition.method, {}), f"{file}: tuned.{definition.method}")]
        layers.append((definition.overrides, f"{paths.PARAMS}: runs.{name}"))
        layers.append((self.settings.runs.get(name, {}), f"{file}: runs.{name}"))
        if more := self.settings.more_seeds.get(name):
            layers.append(({"seeds": [*self.settings.seeds, *more]}, f"{file}: more_seeds.{name}"))
        return Run(name, definition, self._layered(definition.grouping, layers))

    def settings_with(
        self, overrides: dict[str, Any] | None = None, grouping: str | None = None, origin: str = "overrides"
    ) -> Settings:
        """The profile's settings with one of its `groupings` and dotted overrides ("sampling.cns": 5).

        origin: what an InputError blames for a bad override."""
        return self._layered(grouping, [(overrides or {}, origin)])

    def _layered(self, grouping: str | None, layers: list[tuple[dict[str, Any], str]]) -> Settings:
        content, settings = self.content, self.settings
        for overrides, origin in [*self._grouping_layer(grouping), *layers]:
            if overrides:  # each layer is validated by itself, so that the right file is blamed
                content = overridden(content, overrides, origin)
                settings = validated(Settings, content, origin)
        return settings

    def _grouping_layer(self, grouping: str | None) -> list[tuple[dict[str, Any], str]]:
        if grouping is None:
            return []
        file, known = paths.profile_file(self.profile), self.settings.groupings
        if grouping not in known:
            choice = f"choose one of 'groupings': {', '.join(known)}"
            raise InputError(f"{file}: no grouping named {grouping!r}; {choice}")
        changes = {f"grouping.{key}": value for key, value in known[grouping].items()}
        return [(changes, f"{file}: groupings.{grouping}")]

    def extras(self, stage: str) -> list[str]:
        """The runs that `params.yaml` lists for a stage under `extras`; none where it has none."""
        return (self.params.get(paths.EXTRAS) or {}).get(stage) or []

    def listed(self, stage: str) -> list[str]:
        """The runs that `params.yaml` lists for a stage, without the extras."""
        names = self.params.get(stage)
        if not isinstance(names, list) or not names:
            raise InputError(f"{paths.PARAMS}: section {stage!r} is missing or not a list of runs")
        return names

    def left_out(self, run: str) -> str | None:
        """Why this profile does not make a run, in a few words for its table row; None where it does.

        The profile gives a reason (`without`), the run is another profile's, or its data set is not there."""
        start = self.definition(run).checkpoint_of or run
        if start in self.settings.without:
            return self.settings.without[start]
        profiles = self.definition(start).profiles
        if profiles is not None and self.profile not in profiles:
            return NOT_IN_PROFILE
        common, own = self.settings.data, self.run(start).settings.data
        if common.scenes is not None:
            return None
        there = {*common.pretrain, common.labels, None}
        sources = (source for source in (*own.pretrain, own.labels) if source not in there)
        folders = dict.fromkeys(source.folder for source in sources)
        missing = [folder for folder in folders if not (self.data_root / folder).is_dir()]
        return f"{MISSING_DATA}: {', '.join(missing)}" if missing else None


def load_experiment(profile: str) -> Experiment:
    """Profile and runs from their files; InputError names file, key and value of the first mistake."""
    file = paths.profile_file(profile)
    content, params = load_yaml(file), load_params()
    settings, definitions = validated(Settings, content, str(file)), _definitions(params)
    for key in ("without", "more_seeds", "runs"):
        if unknown := getattr(settings, key).keys() - definitions.keys():
            raise InputError(f"{file}: setting {key!r}: no run named {min(unknown)!r} in {paths.PARAMS}")
    extras = params.get(paths.EXTRAS) or {}
    files = Files(profile, paths.HOME, extras.get("trained") or ())
    return Experiment(profile, settings, definitions, params, files, content)


def load_params() -> dict[str, Any]:
    """params.yaml; InputError for a key it does not know."""
    params = load_yaml(paths.PARAMS)
    if unknown := [key for key in params if key not in PARAMS_KEYS]:
        raise InputError(f"{paths.PARAMS}: unknown key {unknown[0]!r}; known ones: {', '.join(PARAMS_KEYS)}")
    return params


def _definitions(params: dict[str, Any]) -> dict[str, RunDefinition]:
    file, runs = str(paths.PARAMS), params.get("runs")
    if not isinstance(runs, dict):
        raise InputError(f"{file}: section 'runs' is missing or not a mapping of names to runs")
    defined = {name: validated(RunDefinition, run, file, f"runs.{name}.") for name, run in runs.items()}
    for name, run in defined.items():
        _check_run(name, run, defined)
    _check_lists(params, defined)
    return defined


def _check_lists(params: dict[str, Any], defined: dict[str, RunDefinition]) -> None:
    extras = params.get(paths.EXTRAS) or {}
    if unknown := [key for key in extras if key not in EXTRA_LISTS]:
        known = ", ".join(EXTRA_LISTS)
        raise InputError(f"{paths.PARAMS}: unknown key 'extras.{unknown[0]}'; known ones: {known}")
    for stage in dict.fromkeys((*RUN_LISTS, *EXTRA_LISTS)):
        default, extra = params.get(stage) or (), extras.get(stage) or ()
        for key, names in ((stage, default), (f"{paths.EXTRAS}.{stage}", extra)):
            if unknown := [name for name in names if name not in defined]:
                problem = f"section {key!r} lists {unknown[0]!r}, which 'runs' does not define"
                raise InputError(f"{paths.PARAMS}: {problem}")
        if twice := [name for name in extra if name in default]:
            raise InputError(f"{paths.PARAMS}: {twice[0]!r} is listed for {stage!r}, and in its extras too")


def _check_run(name: str, run: RunDefinition, defined: dict[str, RunDefinition]) -> None:
    setting, start = f"{paths.PARAMS}: setting 'runs.{name}", defined.get(run.checkpoint_of or name)
    if start is None or start.method != run.method or (start is not run and start.checkpoint_of):
        trains = f"no run of method {run.method!r} that trains"
        raise InputError(f"{setting}.checkpoint_of': {run.checkpoint_of!r} is {trains}")
    if (run.method in READ_WEIGHTS) != (run.weights is not None):
        methods = ", ".join(map(repr, READ_WEIGHTS))
        raise InputError(
            f"{setting}.weights': a file name for one of the methods {methods}, and for no other"
        )
    for file in map(paths.profile_file, run.profiles or ()):
        if not file.exists():
            raise InputError(f"{setting}.profiles': no profile {file.stem!r} under {file.parent}")
