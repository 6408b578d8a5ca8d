"""The full hierarchy: its contour map at double size, distances, the cut; slow loops stand beside higra's."""

import numpy as np
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from hgrl.grouping import hierarchy
from hgrl.grouping.hierarchy import Arcs, average_linkage, build_hierarchy, collect_arcs, lattice_weights
from hgrl.grouping.merge_tree import MergeTree

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
    labels = hierarchy.watershed(generator.random(shape))
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
    assert (heights[tree.tree.parents()] >= heights).all()


def slow_ucm2(tree):
    """Pixel by pixel: heights between neighbours, corners the largest beside them, the border repeated."""
    height, width = tree.labels.shape
    distance = np.clip(slow_distances(tree), 0, 1)
    out = np.zeros((2 * height + 1, 2 * width + 1), np.float32)
    for y in range(height):
        for x in range(width):
            if x + 1 < width:
                out[2 * y + 1, 2 * x + 2] = distance[tree.labels[y, x], tree.labels[y, x + 1]]
            if y + 1 < height:
                out[2 * y + 2, 2 * x + 1] = distance[tree.labels[y, x], tree.labels[y + 1, x]]
    for y in range(2, 2 * height, 2):
        for x in range(2, 2 * width, 2):
            out[y, x] = max(out[y - 1, x], out[y + 1, x], out[y, x - 1], out[y, x + 1])
    out[0], out[-1] = out[1], out[-2]
    out[:, 0], out[:, -1] = out[:, 1], out[:, -2]
    return out


@given(hierarchies())
@settings(max_examples=50, deadline=None)
def test_the_ucm_is_that_of_the_slow_walk(tree):
    ucm2 = tree.ucm2()
    assert ucm2.dtype == np.float32
    np.testing.assert_array_equal(ucm2, slow_ucm2(tree))


def slow_cut(tree, most):
    """The highest merges, one at a time from the top; the leaf of a region is the node it stops at."""
    order = sorted(range(len(tree.heights)), key=lambda k: (tree.heights[k], k))
    chosen = [tree.regions + k for k in order[max(0, len(order) - (most - 1)) :]]
    stops = {leaf: {leaf} for leaf in range(tree.regions)}
    for k, group in enumerate(members(tree)[tree.regions :]):
        if tree.regions + k not in chosen:
            stops[tree.regions + k] = group
    roots = {node for node in stops if not any(stops[node] < stops[other] for other in stops)}
    leaves = sorted(roots)
    leaf_of = {region: number for number, node in enumerate(leaves) for region in stops[node]}
    number = {node: k for k, node in enumerate([*leaves, *chosen])}
    children = [sorted(number[child] for child in tree.children[node - tree.regions]) for node in chosen]
    labels = np.array([leaf_of[region] for region in tree.labels.ravel()]).reshape(tree.labels.shape)
    return labels, np.array(children).reshape(-1, 2), tree.heights[[n - tree.regions for n in chosen]]


@given(hierarchies(), st.integers(2, 12))
@settings(max_examples=50, deadline=None)
def test_the_cut_is_that_of_the_slow_walk(tree, most):
    cut, (labels, children, heights) = tree.cut(most), slow_cut(tree, most)
    assert (cut.labels.dtype, cut.children.dtype, cut.heights.dtype) == (np.uint8, np.uint16, np.float32)
    np.testing.assert_array_equal(cut.labels, labels)
    np.testing.assert_array_equal(cut.children, children)
    np.testing.assert_array_equal(cut.heights, np.clip(heights, 0, 1).astype(np.float32))


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


def test_a_merge_is_raised_to_what_it_joins():
    """The mean of .05 over lengths 5 and 1 is one rounding below .05."""
    ends, length = np.array([[0, 1], [0, 2], [1, 2]]), np.array([1.0, 5.0, 1.0])
    assert (0.05 * 1 + 0.05 * 5) / 6 < 0.05
    children, heights = average_linkage(Arcs(np.arange(3)[None], ends, length, np.full(3, 0.05)))
    np.testing.assert_array_equal(children, [[1, 2], [0, 3]])
    assert heights.tolist() == [0.05, 0.05]


@given(hierarchies())
@settings(max_examples=50, deadline=None)
def test_no_merge_is_lower_than_what_it_joins(tree):
    for (first, second), height in zip(tree.children, tree.heights, strict=True):
        below = [tree.heights[node - tree.regions] for node in (first, second) if node >= tree.regions]
        assert height >= max(below, default=0)


def test_heights_above_one_are_one_in_the_map():
    assert MergeTree(LABELS, CHILDREN, np.array([0.25, 1.5])).ucm2().max() == 1


def test_an_image_of_one_region_has_an_empty_map():
    tree = MergeTree(np.zeros((3, 4), np.int64), np.zeros((0, 2), np.int64), np.zeros(0))
    assert tree.ucm2().shape == (7, 9) and not tree.ucm2().any() and tree.cut(40).regions == 1
