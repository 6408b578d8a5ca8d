"""Where everything lies: the one place that knows the repository's folders."""

from __future__ import annotations

import os
from pathlib import Path

# another root for results, for tests
HOME = Path(os.environ.get("HGRL_HOME", Path(__file__).resolve().parents[2]))
PARAMS = HOME / "params.yaml"


def profile_file(profile: str) -> Path:
    return HOME / "profiles" / f"{profile}.yaml"


def artifacts(profile: str) -> Path:
    """What is large or made from others' images: cached by DVC, never committed."""
    return HOME / "artifacts" / profile


def results(profile: str) -> Path:
    """Scores, tables and figures that are committed."""
    return HOME / "results" / profile


def scenes(profile: str) -> Path:
    return artifacts(profile) / "data"


def trees(profile: str, grouping: str | None = None) -> Path:
    """Region trees of the profile's own grouping, or of a named variant."""
    return artifacts(profile) / _named("trees", grouping)


def edge_maps(profile: str, grouping: str | None = None) -> Path:
    return artifacts(profile) / _named("edges", grouping)


def _named(folder: str, grouping: str | None) -> str:
    return f"{folder}-{grouping}" if grouping else folder


def hed_weights(profile: str) -> Path:
    """The edge network of `edges: hed`."""
    return artifacts(profile) / "hed" / "hed.pt"


def hed_summary(profile: str) -> Path:
    """How the edge network was trained, and where its trunk's first weights came from."""
    return results(profile) / "hed" / "hed.json"


def checkpoints(profile: str, run: str) -> Path:
    return artifacts(profile) / "checkpoints" / run


def scores(profile: str, stage: str) -> Path:
    """Finished scores of single seeds, kept between calls."""
    return artifacts(profile) / "scores" / stage


def claims(profile: str) -> Path:
    """The verdicts on the paper's claims; beside it `claims.md`, for reading."""
    return results(profile) / "claims.json"


def data_root(profile: str, embedded: bool) -> Path:
    """Folder of the data sets: the profile's own scenes, or `HGRL_DATA` (default: `data/` in the repository)."""
    if embedded:
        return scenes(profile)
    return Path(os.environ.get("HGRL_DATA", HOME / "data"))


def listings() -> Path:
    """Names of the files of data sets that are slow to list."""
    return HOME / "artifacts" / "listings"


def executed_notebook(profile: str, name: str) -> Path:
    return artifacts(profile) / "notebooks" / f"{name}.ipynb"


def figures(profile: str, committed: bool) -> Path:
    """Charts and pictures of the embedded scenes are committed; pictures of other people's images stay with
    the artefacts.
    """
    return (results(profile) if committed else artifacts(profile)) / "figures"


def metrics(profile: str, stage: str) -> Path:
    """Means over the seeds of every run of a stage: what `dvc metrics show` prints and the tables are made
    from.
    """
    return results(profile) / "metrics" / f"{stage}.json"
