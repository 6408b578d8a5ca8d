"""Covering and achievable accuracy: closed forms on a 3x4 image, and a slow loop."""

import numpy as np
import pytest

from hgrl.metrics.regions import achievable_accuracy, best_union_covering, covering, overlaps

TRUTH = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1]])


def slow_covering(truth, partition):
    total = 0.0
    for segment in np.unique(truth):
        inside = truth == segment
        total += inside.sum() * max((inside & (partition == r)).sum() / (inside | (partition == r)).sum() for r in np.unique(partition))
    return total / truth.size


def test_a_partition_covers_itself():
    assert covering(TRUTH, TRUTH) == achievable_accuracy(TRUTH, TRUTH) == best_union_covering(TRUTH, TRUTH) == 1


def test_one_region_covers_halves_by_half():
    assert covering(TRUTH, np.zeros_like(TRUTH)) == pytest.approx(0.5)
    assert achievable_accuracy(TRUTH, np.zeros_like(TRUTH)) == pytest.approx(0.5)


def test_unions_of_pieces_cover_wholly():
    pieces = np.arange(12).reshape(3, 4)
    assert best_union_covering(TRUTH, pieces) == achievable_accuracy(TRUTH, pieces) == 1
    assert covering(TRUTH, pieces) == pytest.approx(1 / 6)


@pytest.mark.parametrize("seed", range(5))
def test_covering_is_that_of_the_slow_loop(seed):
    generator = np.random.default_rng(seed)
    truth, partition = generator.integers(0, 4, (6, 7)), generator.integers(0, 5, (6, 7)) * 2  # labels need not be consecutive
    assert covering(truth, partition) == pytest.approx(slow_covering(truth, partition))
    assert overlaps(truth, partition).sum() == 42
    assert 0 < covering(truth, partition) <= 1
