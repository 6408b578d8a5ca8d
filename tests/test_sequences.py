"""Sequences won, and intervals over sequences, against plain loops."""

import numpy as np
import pytest

from hgrl.evaluation.sequences import DRAWS, compare

COUNTS = {"a": 1, "b": 2, "c": 3, "d": 1}


def seeds_of(*rows):
    """Each seed's {column: scores} from its J of every sequence."""
    tables = [dict(zip(COUNTS, row, strict=True)) for row in rows]
    return [
        {"field": {"sequences": {name: {"j_mean": j, "objects": COUNTS[name]} for name, j in table.items()}}}
        for table in tables
    ]


IDENTITY = seeds_of([0.1, 0.5, 0.3, 0.2])
LAB = seeds_of([0.6, 0.5, 0.2, 0.4])
OURS = seeds_of([0.5, 0.7, 0.6, 0.2], [0.9, 0.5, 0.2, 0.6])


def test_won_and_mean_lead_are_those_of_a_loop():
    lead = compare({"identity": IDENTITY, "lab": LAB, "ours": OURS})["ours"]["field"]["lead"]
    means = [0.7, 0.6, 0.4, 0.4]
    for name, other, won in (("identity", [0.1, 0.5, 0.3, 0.2], 4), ("lab", [0.6, 0.5, 0.2, 0.4], 3)):
        total = sum(n * (j - k) for n, j, k in zip(COUNTS.values(), means, other, strict=True))
        assert lead[name]["mean"] == pytest.approx(total / 7)
        assert (lead[name]["won"], lead[name]["of"]) == (won, 4)
        assert lead[name]["low"] <= lead[name]["mean"] <= lead[name]["high"]


def test_the_interval_is_that_of_sequences_drawn_one_by_one():
    random, means, counts = np.random.default_rng(1), np.array([0.7, 0.6, 0.4, 0.4]), np.array([1, 2, 3, 1])
    replicates = []
    for _ in range(20 * DRAWS):
        drawn = random.integers(4, size=4)
        replicates.append((means[drawn] * counts[drawn]).sum() / counts[drawn].sum())
    own = compare({"ours": OURS})["ours"]["field"]
    assert (own["j_low"], own["j_high"]) == pytest.approx(np.quantile(replicates, (0.025, 0.975)), abs=0.01)


def test_a_run_leads_itself_by_nothing_and_others_only_on_the_same_sequences():
    compared = compare({"identity": IDENTITY, "twin": IDENTITY, "lab": LAB})
    twin = compared["twin"]["field"]["lead"]
    assert twin["identity"] == {"mean": 0, "low": 0, "high": 0, "won": 0, "of": 4}
    assert compared["lab"]["field"]["lead"].keys() == {"identity"}
    fewer = [{"field": {"sequences": {"a": {"j_mean": 0.3, "objects": 1}}}}]
    assert compare({"identity": IDENTITY, "ours": fewer})["ours"]["field"]["lead"] == {}
