"""Watershed, arcs, small regions, average linkage, the cut: against slow loops and a hand-drawn image."""

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from hgrl.core.settings import GroupingSettings
from hgrl.grouping import hierarchy
from hgrl.grouping.hierarchy import (
    Arcs,
    average_linkage,
    build_tree,
    collect_arcs,
    lattice_weights,
    merge_small,
    watershed,
)
from hgrl.grouping.merge_tree import MergeTree

# 3x4: each region adjoins the others in its own way
LABELS = np.array([[0, 0, 1, 1], [0, 2, 2, 1], [3, 3, 2, 2]])
EDGES = np.array([[0.1, 0.3, 0.9, 0.1], [0.2, 0.8, 0.4, 0.6], [0.5, 0.2, 0.7, 0.3]])
WHOLE = GroupingSettings(min_area=0, spectral=False)


def slow_arcs(labels, values):
    """Every pair of neighbouring pixels of different regions, one after the other."""
    arcs = {}
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            for down, right in ((0, 1), (1, 0)):
                if y + down < labels.shape[0] and x + right < labels.shape[1]:
                    pair = tuple(sorted((labels[y, x], labels[y + down, x + right])))
                    if pair[0] != pair[1]:
                        arcs.setdefault(pair, []).append((values[y, x] + values[y + down, x + right]) / 2)
    return arcs


def naive_average_linkage(arcs):
    """Merge the pair with the weakest mean arc; the merged region's arcs are the union of both regions'
    lattice edges.
    """
    each = zip(arcs.ends.tolist(), arcs.length, arcs.strength, strict=True)
    lengths = {tuple(pair): (length, length * strength) for pair, length, strength in each}
    height, members, merges = (
        dict.fromkeys(range(arcs.regions), 0.0),
        {k: {k} for k in range(arcs.regions)},
        [],
    )
    for node in range(arcs.regions, 2 * arcs.regions - 1):
        first, second = min(lengths, key=lambda pair: lengths[pair][1] / lengths[pair][0])
        length, total = lengths.pop((first, second))
        height[node] = max(total / length, height[first], height[second])
        members[node] = members.pop(first) | members.pop(second)
        merges.append((frozenset(members[node]), height[node]))
        for pair in [pair for pair in lengths if first in pair or second in pair]:
            length, total = lengths.pop(pair)
            other = pair[0] if pair[1] in (first, second) else pair[1]
            before = lengths.get((other, node), (0, 0))
            lengths[other, node] = (before[0] + length, before[1] + total)
    return merges


def as_merges(arcs, children, heights):
    members = [{k} for k in range(arcs.regions)]
    for first, second in children:
        members.append(members[first] | members[second])
    return [
        (frozenset(group), height) for group, height in zip(members[arcs.regions :], heights, strict=True)
    ]


def random_arcs(seed, regions):
    """A random partition of an 8x8 grid into connected regions, with random weights (no ties)."""
    generator = np.random.default_rng(seed)
    labels = watershed(generator.random((8, 8)))
    return collect_arcs(
        labels % max(regions, 1) if regions else labels, *lattice_weights(generator.random((8, 8)))
    )


def connected(labels):
    return all(scipy.ndimage.label(labels == label)[1] == 1 for label in np.unique(labels))


def test_arcs_of_the_hand_drawn_image():
    arcs = collect_arcs(LABELS, *lattice_weights(EDGES))
    expected = slow_arcs(LABELS, EDGES)
    assert [tuple(pair) for pair in arcs.ends] == sorted(expected)
    np.testing.assert_allclose(arcs.strength, [np.mean(expected[tuple(pair)]) for pair in arcs.ends])
    np.testing.assert_array_equal(arcs.length, [len(expected[tuple(pair)]) for pair in arcs.ends])


def test_average_linkage_of_the_hand_drawn_image_is_the_naive_one():
    arcs = collect_arcs(LABELS, *lattice_weights(EDGES))
    found, naive = as_merges(arcs, *average_linkage(arcs)), naive_average_linkage(arcs)
    assert [group for group, _ in found] == [group for group, _ in naive]
    np.testing.assert_allclose([height for _, height in found], [height for _, height in naive])


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_average_linkage_is_the_naive_one(seed):
    arcs = random_arcs(seed, 0)
    found, naive = as_merges(arcs, *average_linkage(arcs)), naive_average_linkage(arcs)
    assert {group for group, _ in found} == {group for group, _ in naive}
    np.testing.assert_allclose(dict(found)[max(dict(found), key=len)], dict(naive)[max(dict(naive), key=len)])


@given(st.integers(0, 10_000), st.integers(2, 12))
@settings(max_examples=25, deadline=None)
def test_trees_are_well_formed_with_connected_leaves(seed, most):
    arcs = random_arcs(seed, 0)
    tree = build_tree(arcs, GroupingSettings(min_area=0, max_regions=most))
    assert tree.problem() is None and tree.regions == min(most, arcs.regions)
    assert connected(tree.labels) and (np.diff(tree.heights) >= 0).all()
    members = [np.isin(tree.labels, [leaf]) for leaf in range(tree.regions)]
    for first, second in tree.children:  # every node is one piece
        members.append(members[first] | members[second])
        assert scipy.ndimage.label(members[-1])[1] == 1


@given(st.integers(0, 10_000), st.integers(0, 40))
@settings(max_examples=25, deadline=None)
def test_no_leaf_is_a_sliver(seed, least):
    arcs = random_arcs(seed, 0)
    tree = build_tree(
        arcs, GroupingSettings(min_area=round(least * hierarchy.REFERENCE / 64), max_regions=40)
    )
    assert tree.regions <= 40 and (tree.regions == 1 or np.bincount(tree.labels.ravel()).min() >= least)


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_linkage_by_the_root_of_length_is_the_naive_one_of_such_lengths(seed):
    arcs = random_arcs(seed, 0)
    rooted = Arcs(arcs.labels, arcs.ends, np.sqrt(arcs.length), arcs.strength)
    found, naive = as_merges(arcs, *average_linkage(arcs, "root")), naive_average_linkage(rooted)
    assert {group for group, _ in found} == {group for group, _ in naive}


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_a_coarser_cut_agrees_with_the_finer_tree(seed):
    arcs = random_arcs(seed, 0)
    fine, coarse = (build_tree(arcs, GroupingSettings(min_area=0, max_regions=most)) for most in (9, 4))
    assert all(len(np.unique(coarse.labels[fine.labels == leaf])) == 1 for leaf in range(fine.regions))
    far = coarse.distances()[coarse.labels.ravel()][:, coarse.labels.ravel()]
    same = fine.distances()[fine.labels.ravel()][:, fine.labels.ravel()]
    np.testing.assert_array_equal(far[far > 0], same[far > 0])


def test_ties_are_broken_parent_first():
    labels = np.arange(6)[None]
    children = np.array([[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]])
    tree = MergeTree(labels, children, np.full(5, 0.5)).cut(3)
    assert tree.regions == 3 and connected(tree.labels)  # the two highest merges stay, no subtree drops out
    np.testing.assert_array_equal(
        tree.labels, [[0, 0, 1, 1, 2, 2]] if tree.labels[0, 0] != tree.labels[0, 2] else [[0, 0, 0, 0, 1, 2]]
    )


def test_heights_are_clipped_to_one():
    arcs = collect_arcs(LABELS, *lattice_weights(3 * EDGES))
    assert build_tree(arcs, WHOLE).heights.max() <= 1


@pytest.mark.parametrize("least", [2, 5, 12, 40, 64])
def test_no_small_region_is_left(least):
    for seed in range(10):
        arcs = random_arcs(seed, 0)
        merged = merge_small(arcs, least)
        areas = np.bincount(merged.labels.ravel())
        assert (areas >= least).all() or merged.regions == 1
        assert connected(merged.labels)
        check = collect_arcs(merged.labels, *lattice_weights(np.random.default_rng(seed).random((8, 8))))
        np.testing.assert_array_equal(check.ends, merged.ends)
        np.testing.assert_array_equal(check.length, merged.length)


def test_a_small_region_goes_to_its_weakest_neighbour():
    labels = np.array([[0, 0, 0, 1, 2, 2, 2]])
    arcs = Arcs(labels, np.array([[0, 1], [1, 2]]), np.ones(2), np.array([0.9, 0.1]))
    np.testing.assert_array_equal(merge_small(arcs, 2).labels, [[0, 0, 0, 1, 1, 1, 1]])


def test_large_regions_are_never_merged_by_size():
    labels = np.array([[0, 0, 1, 2, 3, 3]])
    arcs = Arcs(labels, np.array([[0, 1], [1, 2], [2, 3]]), np.ones(3), np.array([0.3, 0.2, 0.4]))
    np.testing.assert_array_equal(merge_small(arcs, 2).labels, [[0, 0, 1, 1, 2, 2]])


def test_min_area_is_scaled_to_the_image():
    labels = np.repeat(np.repeat(np.arange(4).reshape(2, 2), 16, 0), 16, 1)  # 32x32: four regions of 256 px
    arcs = collect_arcs(labels, *lattice_weights(np.random.default_rng(0).random((32, 32))))
    reference = hierarchy.REFERENCE / labels.size
    assert build_tree(arcs, GroupingSettings(min_area=int(250 * reference))).regions == 4
    assert build_tree(arcs, GroupingSettings(min_area=int(260 * reference))).regions < 4


def test_watershed_finds_the_two_sides_of_a_line():
    edge_map = np.zeros((20, 30))
    edge_map[:, 14] = 1
    labels = watershed(edge_map)
    assert connected(labels) and labels[0, 0] != labels[0, -1]
    assert not set(labels[:, :13].ravel()) & set(labels[:, 17:].ravel())


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (2, 2)])
def test_tiny_and_constant_maps_are_one_region(shape):
    edge_map = np.full(shape, 0.5)
    labels = watershed(edge_map)
    tree = build_tree(collect_arcs(labels, *lattice_weights(edge_map)), WHOLE)
    assert tree.regions == 1 and tree.problem() is None
