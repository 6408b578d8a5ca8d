"""Thinning, one-to-one matching and boundary counts: drawn cases, scikit-image and slow loops as oracles."""

import numpy as np
import pytest
from conftest import three_regions
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.morphology import thin as skimage_thin

from hgrl.core.errors import InputError
from hgrl.metrics.boundaries import (
    benchmark_thresholds,
    boundary_counts,
    contour_strength,
    match_boundaries,
    thin,
)
from hgrl.metrics.video import boundary_map

MASKS = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def drawn(*rows):
    return np.array([[character == "#" for character in row] for row in rows])


# --- thinning


def test_a_line_is_thin_already_and_a_bar_becomes_one():
    line = drawn(".....", ".###.", ".....")
    assert np.array_equal(thin(line), line)
    bar = np.zeros((9, 20), bool)
    bar[3:6] = True
    assert thin(bar)[4, 2:-2].all() and thin(bar).sum() <= 20
    assert not thin(bar)[[0, 1, 2, 6, 7, 8]].any()


@settings(max_examples=60, deadline=None)
@given(MASKS)
def test_thinning_is_that_of_scikit_image(mask):
    assert np.array_equal(thin(mask), skimage_thin(mask))


@pytest.mark.parametrize("fraction", [0.4, 0.6, 0.8, 0.95])
def test_thinning_of_many_iterations_is_that_of_scikit_image(fraction):
    noise = np.random.default_rng(0).random((60, 70))
    blobs = sum(np.roll(noise, (dy, dx), (0, 1)) for dy in range(5) for dx in range(5)) / 25
    mask = blobs < np.quantile(blobs, fraction)
    assert np.array_equal(thin(mask), skimage_thin(mask))
    assert np.array_equal(thin(thin(mask)), thin(mask))


# --- matching


def near(found, truth, radius):
    """For every truth pixel, the found pixels within the radius: by looking at all pairs."""
    found_at, truth_at = np.argwhere(found), np.argwhere(truth)
    return [[f for f, b in enumerate(found_at) if ((a - b) ** 2).sum() <= radius**2] for a in truth_at]


def most_pairs(neighbours):
    """The size of a maximum matching, by one recursive search for an augmenting path after the other."""
    owner = {}

    def augment(t, seen):
        for f in neighbours[t]:
            if f not in seen:
                seen.add(f)
                if f not in owner or augment(owner[f], seen):
                    owner[f] = t
                    return True
        return False

    return sum(augment(t, set()) for t in range(len(neighbours)))


@pytest.mark.parametrize("seed", range(30))
def test_as_many_pixels_are_paired_as_can_be(seed):
    generator = np.random.default_rng(seed)
    found, truth = generator.random((2, 9, 12)) < generator.uniform(0.05, 0.6, (2, 1, 1))
    radius = generator.uniform(0, 3)
    neighbours = near(found, truth, radius)
    of_found, of_truth = match_boundaries(found, truth, radius / np.hypot(9, 12))
    assert of_found.sum() == of_truth.sum() == most_pairs(neighbours)
    assert not (of_found & ~found).any() and not (of_truth & ~truth).any()
    named = near(of_found, of_truth, radius)
    assert most_pairs(named) == of_truth.sum()  # those named can indeed be paired with each other


def test_the_nearest_pixel_is_taken_and_only_one():
    truth, found = drawn("..#.."), drawn("#.#.#")
    of_found, of_truth = match_boundaries(found, truth, 2 / np.hypot(1, 5))
    assert of_found.tolist() == [[False, False, True, False, False]] and of_truth.sum() == 1


def test_greedy_pairs_are_given_up_for_more_pairs():
    # the two in the third column are nearest, but then the others are 2 apart
    found, truth = drawn(".##...."), drawn("..##...")
    of_found, of_truth = match_boundaries(found, truth, 1 / np.hypot(1, 7))
    assert of_found.sum() == of_truth.sum() == 2


def test_the_tolerance_is_inclusive():
    truth, found = np.zeros((2, 8, 8), bool)
    truth[1, 1] = found[4, 5] = True  # 5 apart
    diagonal = np.hypot(8, 8)
    assert match_boundaries(found, truth, 5 / diagonal * (1 + 1e-12))[0].sum() == 1
    assert match_boundaries(found, truth, 4.99 / diagonal)[0].sum() == 0


def test_nothing_matches_nothing():
    empty, full = np.zeros((4, 4), bool), np.ones((4, 4), bool)
    for found, truth in ((empty, empty), (empty, full), (full, empty)):
        assert not any(matched.any() for matched in match_boundaries(found, truth))
    assert all(matched.all() for matched in match_boundaries(full, full))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000))
def test_matching_a_mirrored_pair_gives_as_many(seed):
    found, truth = np.random.default_rng(seed).random((2, 8, 8)) < 0.3
    size = match_boundaries(found, truth, 0.2)[0].sum()
    assert match_boundaries(truth, found, 0.2)[0].sum() == size
    assert match_boundaries(found[::-1], truth[::-1], 0.2)[0].sum() == size


def test_maps_of_different_images_cannot_be_matched():
    with pytest.raises(InputError, match="same image"):
        match_boundaries(np.ones((2, 3), bool), np.ones((3, 2), bool))
    with pytest.raises(InputError, match="no human boundary map"):
        boundary_counts(np.ones((2, 3)), [], np.array([0.5]))


# --- counts


def test_precision_asks_for_any_annotator_and_recall_for_each():
    strength = np.zeros((5, 9))
    strength[2, [1, 4, 7]] = 0.9, 0.6, 0.3
    first, second = np.zeros((2, 5, 9), bool)
    first[2, 1], second[2, [1, 4]] = True, True
    counts = boundary_counts(strength, [first, second], np.array([0.2, 0.6, 0.7, 0.95]))
    assert counts.found.tolist() == [3, 2, 1, 0]
    assert counts.matched_found.tolist() == [2, 2, 1, 0]
    assert counts.truth.tolist() == [3, 3, 3, 3]
    assert counts.matched_truth.tolist() == [3, 3, 2, 0]


def test_equal_maps_in_a_row_are_counted_once_with_the_same_answer():
    generator = np.random.default_rng(0)
    strength, truths = generator.random((20, 20)).round(1), generator.random((2, 20, 20)) < 0.2
    thresholds = benchmark_thresholds(19)
    counts = boundary_counts(strength, truths, thresholds)
    alone = [boundary_counts(strength, truths, [threshold]) for threshold in thresholds]
    assert [list(field) for field in counts] == [
        [int(getattr(one, name)[0]) for one in alone] for name in counts._fields
    ]


def test_thresholds():
    assert benchmark_thresholds(5).tolist() == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6])
    assert (
        len(benchmark_thresholds()) == 99
        and benchmark_thresholds()[0] == 0.01
        and benchmark_thresholds()[-1] == 0.99
    )
    assert benchmark_thresholds(1).tolist() == [0.5]


def test_contours_of_a_tree_are_the_boundaries_of_its_cuts():
    tree = three_regions(8, 10)
    strength = contour_strength(tree.labels, tree.distances())
    assert set(np.unique(strength)) == {0, 0.25, 0.75}
    for level in (0.1, 0.25, 0.5, 0.75, 0.9):
        # a contour of strength `level` is still there at the threshold `level`
        below = np.nextafter(np.float32(level), np.float32(0))
        assert np.array_equal(strength >= np.float32(level), boundary_map(tree.cut(below)))
