"""The region tree: distances, cuts, files. A hand-drawn tree of four regions stands in most tests."""

import time

import cv2
import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st

from hgrl.core.errors import InputError
from hgrl.core.settings import GroupingSettings
from hgrl.grouping.group import region_tree
from hgrl.grouping.region_tree import RegionTree

#        6 (.7)
#      5 (.5)   \
#    4 (.2)  \   \
#   0    1    2   3
LABELS = np.array([[0, 0, 1, 1], [2, 2, 1, 1], [2, 2, 3, 3]], np.uint8)


def hand_drawn():
    return RegionTree(
        LABELS, np.array([[0, 1], [2, 4], [3, 5]], np.uint16), np.array([0.2, 0.5, 0.7], np.float32)
    )


def single():
    return RegionTree(np.zeros((2, 3), np.uint8), np.zeros((0, 2), np.uint16), np.zeros(0, np.float32))


@st.composite
def trees(draw):
    """Random trees of up to 12 regions, one pixel each."""
    regions = draw(st.integers(1, 12))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    alive, children = list(range(regions)), []
    for k in range(regions - 1):
        pair = [alive.pop(generator.integers(len(alive))) for _ in range(2)]
        children.append(sorted(pair))
        alive.append(regions + k)
    heights = np.sort(generator.integers(0, 5, regions - 1) / 4).astype(np.float32)  # with ties
    return RegionTree(
        np.arange(regions, dtype=np.uint8)[None], np.array(children, np.uint16).reshape(-1, 2), heights
    )


def walked_distance(tree, first, second):
    """Walk up from both leaves until the paths meet: the definition, slowly."""
    path, node = [first], first
    while tree.parents[node] != node:
        node = tree.parents[node]
        path.append(node)
    node = second
    while node not in path:
        node = tree.parents[node]
    return 0.0 if node < tree.regions else tree.heights[node - tree.regions]


def test_distances_of_the_hand_drawn_tree():
    expected = [[0, 0.2, 0.5, 0.7], [0.2, 0, 0.5, 0.7], [0.5, 0.5, 0, 0.7], [0.7, 0.7, 0.7, 0]]
    np.testing.assert_array_equal(hand_drawn().distances(), np.array(expected, np.float32))


@given(trees())
@settings(max_examples=50, deadline=None)
def test_distances_are_those_of_walking_the_tree(tree):
    n = tree.regions
    slow = [[walked_distance(tree, i, j) if i != j else 0 for j in range(n)] for i in range(n)]
    np.testing.assert_array_equal(tree.distances(), np.array(slow, np.float32))


@given(trees())
@settings(max_examples=50, deadline=None)
def test_distances_are_an_ultrametric(tree):
    d = tree.distances()
    assert (d == d.T).all() and (np.diag(d) == 0).all()
    # d(i, k) <= max(d(i, j), d(j, k))
    assert (d[:, None, :] <= np.maximum(d[:, :, None], d[None, :, :])).all()


@given(trees(), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_cuts_are_nested(tree, low, high):
    low, high = sorted((low, high))
    fine, coarse = tree.cut(low), tree.cut(high)
    assert all(len(np.unique(coarse[fine == label])) == 1 for label in np.unique(fine))


@given(trees())
@settings(max_examples=30, deadline=None)
def test_cut_joins_exactly_the_regions_that_are_near(tree):
    for level in (0, 0.25, 0.6, 1):
        groups = tree.leaf_groups(level)
        joined = groups[:, None] == groups[None, :]
        np.testing.assert_array_equal(joined, tree.distances() <= level)


def test_cut_of_the_hand_drawn_tree():
    np.testing.assert_array_equal(hand_drawn().cut(0.5), [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1]])
    np.testing.assert_array_equal(hand_drawn().cut(0.1), LABELS)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_cut_into_gives_as_many_regions_as_asked(count):
    assert len(np.unique(hand_drawn().cut_into(count))) == count


def test_ucm_of_the_hand_drawn_tree():
    expected = [[0.5, 0.5, 0, 0], [0, 0.5, 0.7, 0.7], [0, 0.7, 0, 0]]  # the larger of right and below
    np.testing.assert_array_equal(hand_drawn().ucm(), np.array(expected, np.float32))


def test_areas_add_up():
    np.testing.assert_array_equal(hand_drawn().areas(), [2, 4, 4, 2, 6, 10, 12])


def test_a_single_region_is_a_tree():
    tree = single()
    assert tree.regions == 1 and tree.problem() is None
    assert tree.distances().shape == (1, 1) and not tree.ucm().any() and not tree.cut(1).any()


@pytest.mark.parametrize("make", [hand_drawn, single])
def test_saved_trees_come_back(tmp_path, make):
    tree, path = make(), tmp_path / "a" / "tree.npz"
    tree.save(path)
    again = RegionTree.load(path)
    for name in ("labels", "children", "heights"):
        np.testing.assert_array_equal(getattr(tree, name), getattr(again, name))
        assert getattr(tree, name).dtype == getattr(again, name).dtype


def test_a_photograph_sized_tree_is_small_and_quick_to_load(tmp_path):
    y, x = np.mgrid[:375, :500]
    wavy = (y + 12 * np.sin(x / 20)) // 76 * 8 + (x + 9 * np.cos(y / 15)) // 65
    labels = np.unique(wavy, return_inverse=True)[1].reshape(wavy.shape).astype(np.uint8)
    n = labels.max() + 1
    children = np.array([[0, 1]] + [[k + 1, n + k - 1] for k in range(1, n - 1)], np.uint16)
    path = tmp_path / "tree.npz"
    RegionTree(labels, children, np.linspace(0.1, 1, n - 1, dtype=np.float32)).save(path)
    assert path.stat().st_size <= 12_000
    best = min(_seconds(lambda: RegionTree.load(path)) for _ in range(10))
    assert best < 0.02  # 2 ms on a quiet machine


def test_trees_of_photographs_are_small(tmp_path):
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        image = cv2.resize(getattr(skimage.data, name)(), (500, 375), interpolation=cv2.INTER_AREA)
        tree = region_tree(image, GroupingSettings())[1]
        assert tree.regions == 40
        tree.save(tmp_path / "tree.npz")
        assert (tmp_path / "tree.npz").stat().st_size <= 12_000, name


def _seconds(action):
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def broken(tmp_path, **arrays):
    path = tmp_path / "broken.npz"
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut"])
def test_a_foreign_file_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "foreign.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match="foreign.npz.*run") as caught:
        RegionTree.load(path)
    assert "\n" not in str(caught.value)


def test_a_cut_off_file_is_refused(tmp_path):
    path = tmp_path / "tree.npz"
    hand_drawn().save(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="tree.npz"):
        RegionTree.load(path)


def test_a_missing_file_says_what_to_run(tmp_path):
    with pytest.raises(InputError, match="hgrl group"):
        RegionTree.load(tmp_path / "none.npz")


def test_pickles_are_not_opened(tmp_path):
    path = broken(tmp_path, labels=np.array([{}], object), children=np.zeros((0, 2)), heights=np.zeros(0))
    with pytest.raises(InputError):
        RegionTree.load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"labels": LABELS.astype(np.int32)},
        {"labels": np.minimum(LABELS, 2)},  # a leaf without pixels
        {"heights": np.array([0.5, 0.2, 0.7], np.float32)},
        {"heights": np.array([0.2, np.nan, 0.7], np.float32)},
        {"children": np.array([[0, 1], [0, 4], [3, 5]], np.uint16)},  # merged twice
        {"children": np.array([[0, 6], [2, 4], [3, 5]], np.uint16)},  # not made yet
        {"children": np.zeros((2, 2), np.uint16)},
    ],
)
def test_arrays_that_are_no_tree_are_refused(tmp_path, change):
    tree = hand_drawn()
    arrays = {
        "labels": np.diff(tree.labels, axis=0, prepend=np.uint8(0)),
        "children": tree.children,
        "heights": tree.heights,
    }
    if "labels" in change and change["labels"].dtype == np.uint8:
        change = {"labels": np.diff(change["labels"], axis=0, prepend=np.uint8(0))}
    with pytest.raises(InputError, match="not a region tree"):
        RegionTree.load(broken(tmp_path, **(arrays | change)))
