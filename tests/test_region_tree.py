"""The region tree: distances, cuts, files. A hand-drawn tree of four regions stands in most tests."""

import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st

from hgrl.core.errors import InputError
from hgrl.core.settings import GroupingSettings
from hgrl.grouping.group import region_tree
from hgrl.grouping.region_tree import RegionTree, load_tree

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
    parents = {child: tree.regions + k for k, pair in enumerate(tree.children.tolist()) for child in pair}
    path, node = [first], first
    while node in parents:
        node = parents[node]
        path.append(node)
    node = second
    while node not in path:
        node = parents[node]
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


def test_a_single_region_is_a_tree():
    tree = single()
    assert tree.regions == 1 and tree.problem() is None
    assert tree.distances().shape == (1, 1) and not tree.cut(1).any()


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
    """A file with the right checksum and these arrays, `labels` as they are in a tree."""
    path, tree = tmp_path / "broken.npz", hand_drawn()
    own = {"labels": tree.labels, "children": tree.children, "heights": tree.heights} | arrays
    broken_tree = RegionTree(*(np.asarray(array) for array in own.values()))
    if own["labels"].dtype == np.uint8:
        own["labels"] = np.diff(own["labels"], axis=0, prepend=np.uint8(0))
    has_objects = any(array.dtype == object for array in own.values())
    checksum = "" if has_objects else broken_tree._checksum("")
    np.savez(path, **own, stamp=np.array(["", checksum]))
    return path


def test_the_helper_that_breaks_trees_leaves_whole_ones_whole(tmp_path):
    assert RegionTree.load(broken(tmp_path)).problem() is None


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut"])
def test_a_foreign_file_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "foreign.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"foreign.npz.*run") as caught:
        RegionTree.load(path)
    assert "\n" not in str(caught.value)


def test_a_cut_off_file_is_refused(tmp_path):
    path = tmp_path / "tree.npz"
    hand_drawn().save(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"tree.npz"):
        RegionTree.load(path)


def test_a_missing_file_says_what_to_run(tmp_path):
    with pytest.raises(InputError, match="hgrl group"):
        RegionTree.load(tmp_path / "none.npz")


def test_pickles_are_not_opened(tmp_path):
    with pytest.raises(InputError, match="allow_pickle"):
        RegionTree.load(broken(tmp_path, labels=np.array([{}], object)))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"labels": LABELS.astype(np.int32)}, "uint8"),
        ({"labels": LABELS[0]}, "labels"),
        ({"labels": LABELS[:0]}, "labels"),
        ({"labels": np.minimum(LABELS, 2)}, "labels are not 0 .. 3"),  # a leaf without pixels
        ({"labels": LABELS + np.uint8(1)}, "labels are not 0 .. 3"),
        ({"heights": np.array([0.5, 0.2, 0.7], np.float32)}, "rise"),
        ({"heights": np.array([0.2, np.nan, 0.7], np.float32)}, "rise"),
        ({"heights": np.array([-0.2, 0.5, 0.7], np.float32)}, "rise"),
        ({"heights": np.array([0.2, 0.5, 1.5], np.float32)}, "from 0 to 1"),
        ({"heights": np.array(["low", "mid", "high"])}, "no floats"),
        ({"heights": np.float32(0.5)}, "fit together"),
        ({"children": np.array([[0, 1], [0, 4], [3, 5]], np.uint16)}, "merged twice"),
        ({"children": np.array([[0, 6], [2, 4], [3, 5]], np.uint16)}, "before it is made"),
        ({"children": np.array([[0, -1], [2, 4], [3, 5]], np.int64)}, "before it is made"),
        ({"children": np.array([[0, 1], [2, 4], [3, 5]], np.float32)}, "integers"),
        ({"children": np.zeros((2, 2), np.uint16)}, "fit together"),
        ({"children": np.uint16(3)}, "fit together"),
    ],
)
def test_arrays_that_are_no_tree_are_one_line(tmp_path, change, reason):
    with pytest.raises(InputError, match=rf"broken.npz: not a region tree .*{reason}.*run") as caught:
        RegionTree.load(broken(tmp_path, **{name: np.asarray(array) for name, array in change.items()}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("stamp", [None, np.array([]), np.array("text"), np.array(["", "0" * 16])])
def test_a_tree_without_a_fitting_checksum_is_refused(tmp_path, stamp):
    path, tree = tmp_path / "tree.npz", hand_drawn()
    steps = np.diff(tree.labels, axis=0, prepend=np.uint8(0))
    arrays = {"labels": steps, "children": tree.children, "heights": tree.heights}
    np.savez(path, **arrays, **({} if stamp is None else {"stamp": stamp}))
    with pytest.raises(InputError, match=r"tree.npz: not a region tree .*run `python -m hgrl group`"):
        RegionTree.load(path)


def test_an_edited_tree_is_refused(tmp_path):
    hand_drawn().save(tmp_path / "tree.npz", "origin")
    with np.load(tmp_path / "tree.npz") as file:
        arrays = dict(file)
    assert load_tree(tmp_path / "tree.npz")[1] == "origin"
    for change in ({"heights": arrays["heights"] / 2}, {"stamp": np.array(["other", arrays["stamp"][1]])}):
        np.savez(tmp_path / "tree.npz", **(arrays | change))
        with pytest.raises(InputError, match="checksum"):
            RegionTree.load(tmp_path / "tree.npz")


@given(trees(), st.data())
@settings(max_examples=50, deadline=None)
def test_no_flipped_byte_passes_unnoticed(tree, data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tree.npz"
        tree.save(path, "origin")
        content = bytearray(path.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(content)
        try:
            again, origin = load_tree(path)
        except InputError:
            return
    assert origin == "origin"
    for name in ("labels", "children", "heights"):
        np.testing.assert_array_equal(getattr(again, name), getattr(tree, name))
