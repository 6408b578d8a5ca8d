"""Covering, achievable accuracy, Rand index and variation of information: closed forms on a 3x4 image, and
slow loops.
"""

import numpy as np
import pytest
from regions import region_counts
from scipy import ndimage

from hgrl.core.errors import InputError
from hgrl.metrics.regions import (
    Hierarchy,
    achievable_accuracy,
    best_union_covering,
    covering,
    hierarchy_counts,
    overlaps,
    ucm_hierarchy,
)

TRUTH = np.array([[1, 1, 2, 2], [1, 1, 2, 2], [1, 1, 2, 2]])


def slow_covering(truth, partition):
    total = 0.0
    for segment in np.unique(truth):
        inside = truth == segment
        total += inside.sum() * max(
            (inside & (partition == r)).sum() / (inside | (partition == r)).sum()
            for r in np.unique(partition)
        )
    return total / truth.size


def test_a_partition_covers_itself():
    assert (
        covering(TRUTH, TRUTH) == achievable_accuracy(TRUTH, TRUTH) == best_union_covering(TRUTH, TRUTH) == 1
    )


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
    # labels need not be consecutive
    truth, partition = generator.integers(0, 4, (6, 7)), generator.integers(0, 5, (6, 7)) * 2
    assert covering(truth, partition) == pytest.approx(slow_covering(truth, partition))
    assert overlaps(truth, partition).sum() == 42
    assert 0 < covering(truth, partition) <= 1


# --- the BSDS500 benchmark's counts


def slow_rand_index(first, second):
    pairs = [(p, q) for p in range(first.size) for q in range(p)]
    return np.mean([(first.flat[p] == first.flat[q]) == (second.flat[p] == second.flat[q]) for p, q in pairs])


def slow_variation(first, second):
    """-sum over pixels of log2 p(a | b) + log2 p(b | a), divided by the number of pixels."""
    total = 0.0
    for a, b in zip(first.flat, second.flat, strict=True):
        both = ((first == a) & (second == b)).sum()
        total -= np.log2(both / (first == a).sum()) + np.log2(both / (second == b).sum())
    return total / first.size


@pytest.fixture(params=range(4))
def partitions(request):
    """Two partitions and three annotators, labels from 1, of a 6x7 image."""
    generator = np.random.default_rng(request.param)
    return generator.integers(1, 5, (2, 6, 7)), list(generator.integers(1, 4, (3, 6, 7)) * 2)


def test_rand_index_and_variation_are_those_of_the_slow_loops(partitions):
    (first, second), _ = partitions
    counts, mirrored = region_counts([first], [second]), region_counts([second], [first])
    assert counts.pri[0] == mirrored.pri[0] == pytest.approx(slow_rand_index(first, second))
    assert counts.vi[0] == pytest.approx(slow_variation(first, second))
    assert mirrored.vi[0] == pytest.approx(counts.vi[0])
    same = region_counts([first], [first])
    assert same.pri[0] == 1 and same.vi[0] == pytest.approx(0, abs=1e-12)


def test_halves_against_the_whole():
    counts = region_counts([np.ones((3, 4), int)], [TRUTH])
    assert counts.vi[0] == pytest.approx(1)  # one bit says which half
    assert counts.pri[0] == pytest.approx(2 * 15 / 66)  # the pairs inside a half


def test_counts_are_those_of_the_slow_loops(partitions):
    found, truths = partitions
    counts = region_counts(found, truths)
    for t, partition in enumerate(found):
        assert counts.covered[t] / partition.size == pytest.approx(
            sum(slow_covering(truth, partition) for truth in truths)
        )
        assert counts.pri[t] == pytest.approx(
            np.mean([slow_rand_index(partition, truth) for truth in truths])
        )
        assert counts.vi[t] == pytest.approx(np.mean([slow_variation(partition, truth) for truth in truths]))
        best = {
            r: max(iou(partition == r, truth == s) for truth in truths for s in np.unique(truth))
            for r in np.unique(partition)
        }
        assert counts.covered_found[t] == pytest.approx(sum((partition == r).sum() * best[r] for r in best))
    assert counts.covered_best == pytest.approx(slow_covered_best(found, truths))
    assert counts.truth.tolist() == [3 * 42] * 2 and counts.found.tolist() == [42] * 2


def slow_covered_best(found, truths):
    return sum(
        (truth == s).sum() * max(iou(truth == s, p == r) for p in found for r in np.unique(p))
        for truth in truths
        for s in np.unique(truth)
    )


def iou(first, second):
    return (first & second).sum() / (first | second).sum()


def test_label_0_covers_nothing_but_counts_as_pixels():
    partition = TRUTH.copy()
    partition[:, 2:] = 0  # the right half is in no region
    counts = region_counts([partition], [TRUTH])
    assert counts.covered[0] == counts.covered_found[0] == counts.found[0] == 6 and counts.truth[0] == 12
    # here it is a label as any other, as in the authors' code
    assert counts.pri[0] == 1 and counts.vi[0] == pytest.approx(0, abs=1e-12)


def test_a_hierarchy_counts_as_its_partitions(partitions):
    _, truths = partitions
    generator = np.random.default_rng(0)
    labels, groups = (
        generator.integers(0, 6, (6, 7)),
        np.array([[1, 2, 3, 4, 5, 6], [1, 2, 2, 3, 3, 1], [1, 2, 2, 2, 2, 1], [1, 1, 1, 1, 1, 1]]),
    )
    together = hierarchy_counts(Hierarchy(labels, groups), truths)
    separate = [region_counts([group[labels]], truths) for group in groups]
    for merged, *apart in zip(together[:-1], *(counts[:-1] for counts in separate), strict=True):
        assert merged == pytest.approx(np.concatenate(apart))
    best = slow_covered_best([group[labels] for group in groups], truths)
    assert together.covered_best == pytest.approx(best)


@pytest.mark.parametrize("seed", range(6))
def test_regions_of_a_contour_map_are_the_connected_parts_below_the_threshold(seed):
    ucm2 = np.random.default_rng(seed).random((15, 19))
    if seed % 2:  # as real ones: no contour on a pixel
        ucm2[1::2, 1::2] = 0
    thresholds = np.array([0.1, 0.25, 0.26, 0.5, 0.9])
    hierarchy = ucm_hierarchy(ucm2, thresholds)
    for threshold, group in zip(thresholds, hierarchy.groups, strict=True):
        expected = ndimage.label(ucm2 <= threshold, np.ones((3, 3)))[0][1::2, 1::2]
        found = group[hierarchy.labels]
        pairs = set(zip(expected.flat, found.flat, strict=True))
        # the same parts, under other numbers
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
        assert np.array_equal(expected == 0, found == 0)


def test_regions_are_of_one_image():
    with pytest.raises(InputError, match="same image"):
        region_counts([TRUTH], [TRUTH.T])
    with pytest.raises(InputError, match="no human segmentation"):
        region_counts([TRUTH], [])
    for shape in ((4, 5), (5, 4), (1, 5), (5, 5, 1)):
        with pytest.raises(InputError, match="height and width must be"):
            ucm_hierarchy(np.zeros(shape), np.array([0.5]))


@pytest.mark.parametrize("truth", [
    np.ones((3, 4, 3), int), np.full((3, 4), np.nan), TRUTH - 1, -TRUTH, TRUTH.astype(float),
])  # fmt: skip
def test_human_segmentations_are_integers_from_1(truth):
    """A segment 0 would be scored, -1 would be a trace out of bincount."""
    for score in (
        lambda: region_counts([TRUTH], [TRUTH, truth]),
        lambda: hierarchy_counts(Hierarchy(TRUTH - 1, np.array([[1, 2]])), [TRUTH, truth]),
    ):
        with pytest.raises(InputError, match="must be height x width integers from 1"):
            score()
