"""The full hierarchy: its contour map at double size and the way back, distances, the cut; BSDS500's own
files where they are.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import loadmat

from hgrl.core.errors import InputError
from hgrl.grouping.hierarchy import build_hierarchy, collect_arcs, lattice_weights, watershed
from hgrl.grouping.merge_tree import MergeTree, raise_to_children

LABELS = np.array([[0, 0, 1], [2, 2, 1]])  # 2x3; 0 and 2 merge at .25, then 1 at .75
CHILDREN, HEIGHTS = np.array([[0, 2], [1, 3]]), np.array([0.25, 0.75])


def hand_drawn():
    return MergeTree(LABELS, CHILDREN, HEIGHTS)


@st.composite
def hierarchies(draw):
    """Hierarchies over the watershed of random maps of up to 9x9 px; heights with ties, none 0."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    levels = draw(st.sampled_from([4, 1000]))
    labels = watershed(generator.random(shape))
    arcs = collect_arcs(labels, *lattice_weights(np.ceil(levels * (generator.random(shape) + 1e-3)) / levels))
    return build_hierarchy(arcs, 0)


def members(tree):
    """The leaves under each node, by walking the merges."""
    out = [{leaf} for leaf in range(tree.regions)]
    for first, second in tree.children:
        out.append(out[first] | out[second])
    return out


def slow_distances(tree):
    """The height of the lowest merge that holds both leaves."""
    out = np.zeros((tree.regions, tree.regions))
    # lower ones are written last
    for group, height in reversed(list(zip(members(tree)[tree.regions :], tree.heights, strict=True))):
        out[np.ix_(sorted(group), sorted(group))] = height
    np.fill_diagonal(out, 0)
    return out


def all_distances(tree):
    grid = np.indices((tree.regions, tree.regions)).reshape(2, -1)
    return tree.distances(*grid).reshape(tree.regions, -1)


def pixel_distances(tree):
    pixels = tree.labels.ravel()
    return np.clip(all_distances(tree), 0, 1).astype(np.float32)[pixels][:, pixels]


def test_ucm2_of_the_hand_drawn_tree():
    expected = [
        [0, 0, 0, 0, 0.75, 0, 0],
        [0, 0, 0, 0, 0.75, 0, 0],
        [0.25, 0.25, 0.25, 0.25, 0.75, 0, 0],
        [0, 0, 0, 0, 0.75, 0, 0],
        [0, 0, 0, 0, 0.75, 0, 0],
    ]
    np.testing.assert_array_equal(hand_drawn().ucm2(), np.array(expected, np.float32))


@given(hierarchies())
@settings(max_examples=50, deadline=None)
def test_distances_are_those_of_the_slow_walk_and_an_ultrametric(tree):
    d = all_distances(tree)
    np.testing.assert_array_equal(d, slow_distances(tree))
    # d(i, k) <= max(d(i, j), d(j, k))
    assert (d[:, None, :] <= np.maximum(d[:, :, None], d[None, :, :])).all()


@given(hierarchies())
@settings(max_examples=50, deadline=None)
def test_heights_never_decrease_toward_the_root(tree):
    heights = np.concatenate([np.zeros(tree.regions), tree.heights])
    assert (heights[tree.parents] >= heights).all()


@given(hierarchies())
@settings(max_examples=50, deadline=None)
def test_the_ucm_gives_the_tree_back(tree):
    again = MergeTree.from_ucm2(tree.ucm2())
    np.testing.assert_array_equal(pixel_distances(again), pixel_distances(tree))
    np.testing.assert_array_equal(again.ucm2(), tree.ucm2())
    assert again.regions == tree.regions


@given(hierarchies(), st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_the_ucm_thresholded_is_the_cut(tree, level):
    level = np.float32(level)
    pieces = scipy.ndimage.label(tree.ucm2() <= level)[0][1::2, 1::2].ravel()
    np.testing.assert_array_equal(pieces[:, None] == pieces[None], pixel_distances(tree) <= level)


@given(hierarchies(), st.integers(2, 12))
@settings(max_examples=50, deadline=None)
def test_the_cut_keeps_the_highest_merges(tree, most):
    cut = tree.cut(most)
    # never more, and fewer where there are fewer
    assert cut.problem() is None and cut.regions == min(most, tree.regions)
    near, far = cut.distances()[cut.labels.ravel()][:, cut.labels.ravel()], pixel_distances(tree)
    np.testing.assert_array_equal(near[near > 0], far[near > 0])
    assert (far[near == 0] <= cut.heights.min(initial=1)).all()
    for leaf in range(cut.regions):
        assert scipy.ndimage.label(cut.labels == leaf)[1] == 1


@given(hierarchies())
@settings(max_examples=25, deadline=None)
def test_every_node_is_one_piece(tree):
    for group in members(tree):
        assert scipy.ndimage.label(np.isin(tree.labels, list(group)))[1] == 1


def test_heights_are_lifted_to_those_below():
    np.testing.assert_array_equal(
        raise_to_children(np.array([[0, 1], [2, 4], [3, 5]]), np.array([0.5, 0.2, 0.4])), [0.5, 0.5, 0.5]
    )


def test_heights_above_one_are_one_in_the_map():
    assert MergeTree(LABELS, CHILDREN, np.array([0.25, 1.5])).ucm2().max() == 1


@pytest.mark.parametrize("shape", [(4, 5), (5, 4), (1, 1), (5,), (3, 3, 3)])
def test_maps_of_another_shape_are_refused(shape):
    with pytest.raises(InputError, match="double"):
        MergeTree.from_ucm2(np.zeros(shape, np.float32))


def test_an_image_of_one_region_has_an_empty_map():
    tree = MergeTree.from_ucm2(np.zeros((7, 9), np.float32))
    assert tree.regions == 1 and not tree.ucm2().any() and tree.cut(40).regions == 1


@pytest.mark.skipif("HGRL_DATA" not in os.environ, reason="HGRL_DATA is not set")
def test_official_ucms_come_back_from_their_trees():
    files = sorted((Path(os.environ["HGRL_DATA"]) / "BSDS500" / "bench" / "data" / "ucm2").glob("*.mat"))
    if not files:
        pytest.skip("no ucm2 fixture under HGRL_DATA")
    for file in files:
        ucm2 = loadmat(file)["ucm2"].astype(np.float32)
        tree = MergeTree.from_ucm2(ucm2)
        np.testing.assert_array_equal(tree.ucm2(), ucm2)
        assert tree.cut(40).regions == 40
