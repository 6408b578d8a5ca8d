"""Table 3 sequence by sequence: a mean over a few videos may rest on one of them."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from hgrl.metrics.bootstrap import draws, interval

REFERENCES = ("identity", "lab")  # the runs that every row is held against
DRAWS = 2_000

Columns = dict[str, Any]  # a run's {column: scores}, of one seed


def compare(runs: dict[str, Iterable[Columns]]) -> dict[str, dict[str, Any]]:
    """{run: {column: {"j_low", "j_high", "lead": {reference: {"mean", "low", "high", "won", "of"}}}}}.

    runs: the seeds' scores of every run. J's interval and that of its lead are 95 % percentile bootstraps of
    2,000 replicates (seed 0) that draw the sequences anew, the same ones for both sides of a lead; a sequence
    counts by its number of objects, as in DAVIS. `won`: on how many of the sequences the mean J over seeds is
    higher than the reference's. A reference that was not scored, or on other videos, is left out."""
    tables = {name: _by_column(seeds) for name, seeds in runs.items()}
    compared: dict[str, dict[str, Any]] = {name: {} for name in tables}
    for name, columns in tables.items():
        for column, table in columns.items():
            low, high = interval(_replicates(table))
            own = compared[name][column] = {"j_low": low, "j_high": high, "lead": {}}
            for reference in REFERENCES:
                other = tables.get(reference, {}).get(column)
                if reference != name and other and other.keys() == table.keys():
                    own["lead"][reference] = _lead(table, other)
    return compared


def _by_column(seeds: Iterable[Columns]) -> dict[str, dict[str, tuple[float, int]]]:
    """{column: {sequence: (mean J over seeds, objects)}}."""
    seeds, found = list(seeds), {}
    for column in seeds[0]:
        own = [seed[column]["sequences"] for seed in seeds]
        means = {name: float(np.mean([scores[name]["j_mean"] for scores in own])) for name in own[0]}
        found[column] = {name: (mean, own[0][name]["objects"]) for name, mean in means.items()}
    return found


def _lead(table: dict[str, tuple[float, int]], other: dict[str, tuple[float, int]]) -> dict[str, float]:
    difference = {name: (j - other[name][0], count) for name, (j, count) in table.items()}
    values, counts = np.transpose([*difference.values()])
    low, high = interval(_replicates(difference))
    won = int((values > 0).sum())
    return {
        "mean": float(values @ counts / counts.sum()),
        "low": low,
        "high": high,
        "won": won,
        "of": len(values),
    }


def _replicates(table: dict[str, tuple[float, int]]) -> np.ndarray:
    """(DRAWS,) means over the objects of sequences that are drawn with replacement."""
    values, counts = np.transpose([*table.values()])
    weights = draws(np.random.default_rng(0), DRAWS, len(values)) * counts
    return weights @ values / weights.sum(1)
