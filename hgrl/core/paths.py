"""Where everything lies: the one place that knows the repository's folders."""

import os
from collections.abc import Collection
from copy import copy
from pathlib import Path

# another root for profiles, results and artefacts: a clone without an installation of its own, or a test
HOME = Path(os.environ.get("HGRL_HOME", Path(__file__).resolve().parents[2]))
PARAMS = HOME / "params.yaml"
EXTRAS = "extras"  # what `make repro EXTRAS=1` adds: extras/dvc.yaml, and its folders


def profile_file(profile: str) -> Path:
    return HOME / "profiles" / f"{profile}.yaml"


def data_root() -> Path:
    """Folder of the real data sets: `HGRL_DATA`, or `data/` in the repository."""
    return Path(os.environ.get("HGRL_DATA") or HOME / "data")


class Files:
    """Every file of one profile. `artifacts` (large, or of others' images) are cached by DVC and never
    committed; `results` (scores, tables, charts) are committed.

    extra_runs: those that `extras/dvc.yaml` trains. What it makes lies in folders of its own: DVC takes all
    that lies below a dependency of a stage for needed by it, and `dvc repro` is to leave the extras alone."""

    def __init__(self, profile: str, home: Path, extra_runs: Collection[str] = ()) -> None:
        self.profile, self.extra_runs = profile, frozenset(extra_runs)
        self.artifacts, self.results = home / "artifacts" / profile, home / "results" / profile
        self.extra = ""  # "extras": scores, results and metrics are those of the extras
        self.data = self.artifacts / "data"  # the embedded scenes, if the profile draws them
        self.manifest = self.data / "manifest.json"
        self.hed_weights = self.artifacts / "hed" / "hed.pt"  # the edge network of `edges: hed`
        self.claims = self.results / "claims.json"  # the verdicts; beside it `claims.md`, for reading

    @property
    def extras(self) -> "Files":
        """The same files, but for scores, predictions, results and metrics: those of the extras."""
        files = copy(self)
        files.extra = EXTRAS
        return files

    def trees(self, grouping: str | None = None) -> Path:
        """Region trees of the profile's own grouping, or of a named variant."""
        return self.artifacts / (f"trees-{grouping}" if grouping else "trees")

    def tree_file(self, name: str, grouping: str | None = None) -> Path:
        return self.trees(grouping) / f"{name}.npz"

    def height_scale(self, grouping: str | None = None) -> Path:
        return self.trees(grouping) / "height_scale.json"

    def checkpoints(self, run: str) -> Path:
        own = EXTRAS if run in self.extra_runs else ""
        return self.artifacts / own / "checkpoints" / run

    def checkpoint(self, run: str, seed: int) -> Path:
        return checkpoint_file(self.checkpoints(run), seed)

    def trial(self, stage: str, name: str) -> Path:
        """Checkpoints of a cell of `sweep`, `ablations` or `tuning`."""
        return self.artifacts / stage / name

    def scores(self, stage: str) -> Path:
        """Finished scores of single seeds, read again while what made them is unchanged."""
        return self.artifacts / self.extra / "scores" / stage

    def score(self, stage: str, run: str, seed: int, labelled: str | None = None) -> Path:
        """labelled: the name of the labelled set, in stages that score each by itself."""
        return self.scores(stage) / (labelled or "") / f"{run}-seed{seed}.json"

    def confusions(self, run: str, seed: int, labelled: str) -> Path:
        """The probe's confusion matrix of every reported image of a labelled set."""
        return self.score("probe", run, seed, labelled).with_suffix(".npz")

    def all_confusions(self, run: str) -> Path:
        """Those of all seeds on the primary set, committed: the verdicts are judged by them."""
        return self.result("probe", run).with_suffix(".npz")

    def prediction(self, run: str, index: int, labelled: str) -> Path:
        """The class map that a run's first seed and head predict for a reported image of a labelled set."""
        return self.artifacts / self.extra / "predictions" / labelled / run / f"{index}.png"

    def notebook(self, name: str) -> Path:
        """An executed notebook."""
        return self.artifacts / "notebooks" / f"{name}.ipynb"

    def result(self, stage: str, name: str) -> Path:
        return self.results / self.extra / stage / f"{name}.json"

    def metrics(self, stage: str) -> Path:
        """Means over the seeds of every run of a stage: `dvc metrics show` prints them."""
        return self.results / "metrics" / self.extra / f"{stage}.json"

    def figures(self, committed: bool) -> Path:
        """Charts and pictures of the embedded scenes are committed; pictures of others' images are not."""
        return (self.results if committed else self.artifacts) / "figures"

    def set_aside(self, path: Path) -> Path:
        """Where a stale artefact waits until its replacement stands."""
        return self.artifacts / "stale" / path.relative_to(self.artifacts)


def checkpoint_file(folder: Path, seed: int) -> Path:
    return folder / f"seed{seed}.pt"
