"""Grouping a data set: skipping, bad images, workers, the height scale."""

import numpy as np
import pytest
import skimage.data
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image

from hgrl.core.errors import InputError
from hgrl.core.settings import GroupingSettings, grouping_preset
from hgrl.data.samples import Samples
from hgrl.grouping.group import (
    full_hierarchy,
    group_images,
    height_scale,
    load_edge_map,
    region_tree,
    save_edge_map,
    tree_path,
)
from hgrl.grouping.region_tree import RegionTree

FAST = GroupingSettings(detector="numba", spectral=False)
CROP = np.ascontiguousarray(skimage.data.astronaut()[100:220, 150:270])


def write_images(folder, images):
    folder.mkdir(exist_ok=True)
    for name, image in images.items():
        if isinstance(image, bytes):
            (folder / f"{name}.png").write_bytes(image)
        else:
            Image.fromarray(image).save(folder / f"{name}.png")
    return Samples(tuple(f"toy/{name}" for name in images), tuple(folder / f"{name}.png" for name in images))


@pytest.mark.parametrize("spectral", [True, False])
def test_a_photograph_gives_an_edge_map_and_a_tree(spectral):
    edge_map, tree = region_tree(CROP, GroupingSettings(detector="numba", spectral=spectral))
    assert edge_map.shape == tree.labels.shape == CROP.shape[:2]
    assert tree.problem() is None and 2 <= tree.regions <= 40 and tree.heights.max() <= 1


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((1, 1, 3), np.uint8),
        np.full((30, 40, 3), 7, np.uint8),
        CROP[:2, :5],
        CROP[:9, :1],
        CROP[:17, :33],
    ],
    ids=["one pixel", "constant", "2x5", "9x1", "17x33"],
)
@pytest.mark.parametrize("spectral", [True, False])
def test_odd_images_give_a_tree_too(image, spectral):
    _, tree = region_tree(image, GroupingSettings(detector="numba", spectral=spectral, min_area=0))
    assert tree.problem() is None and tree.labels.shape == image.shape[:2]


def test_the_full_hierarchy_is_the_same_from_the_image_and_from_its_edge_map():
    settings = grouping_preset("best", min_area=100)
    edge_map, tree = region_tree(CROP, settings)
    full, again = full_hierarchy(CROP, settings), full_hierarchy(edge_map, settings)
    np.testing.assert_array_equal(full.ucm2(), again.ucm2())
    assert full.ucm2().shape == (2 * CROP.shape[0] + 1, 2 * CROP.shape[1] + 1)
    cut = full.cut(settings.max_regions)  # both areas are 100 px: the stored tree is this one's cut
    np.testing.assert_array_equal(cut.labels, tree.labels)
    np.testing.assert_array_equal(cut.heights, tree.heights)
    assert full.regions > full_hierarchy(CROP, settings.model_copy(update={"ucm_min_area": 400})).regions
    assert full.regions > tree.regions


@pytest.mark.parametrize("preset", ["fast", "best"])
@pytest.mark.parametrize(
    "changes", [{}, {"arc_strength": "oriented", "spectral_derivative": "oriented", "arc_weight": "root"}]
)
def test_presets_group_a_photograph_and_odd_images(preset, changes):
    for image in (CROP, CROP[:2, :5], CROP[:9, :1], np.full((30, 40, 3), 7, np.uint8)):
        settings = grouping_preset(preset, **changes)
        tree = region_tree(image, settings)[1]
        assert tree.problem() is None and 1 <= tree.regions <= 40
        assert full_hierarchy(image, settings).ucm2().max() <= 1


def test_twice_gives_the_same_tree():
    first, second = (region_tree(CROP, GroupingSettings(detector="numba"))[1] for _ in range(2))
    for name in ("labels", "children", "heights"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_a_bad_image_does_not_stop_the_others(tmp_path):
    samples = write_images(
        tmp_path / "images", {"a": CROP, "bad": b"not an image", "b": CROP[:60], "grey": CROP[..., 0]}
    )
    failures = group_images(samples, tmp_path / "trees", tmp_path / "edges", FAST, workers=1)
    assert (
        list(failures) == ["toy/bad"] and "bad.png" in failures["toy/bad"] and "\n" not in failures["toy/bad"]
    )
    for name in ("toy/a", "toy/b", "toy/grey"):
        tree, edge_map = (
            RegionTree.load(tree_path(tmp_path / "trees", name)),
            load_edge_map(tmp_path / "edges" / f"{name}.png"),
        )
        assert tree.labels.shape == edge_map.shape
    assert not tree_path(tmp_path / "trees", "toy/bad").exists()


def test_what_is_done_is_skipped_and_what_is_missing_is_made(tmp_path):
    samples = write_images(tmp_path / "images", {"a": CROP[:60], "b": CROP[60:]})
    group_images(samples, tmp_path / "trees", None, FAST)
    first, second = (tree_path(tmp_path / "trees", name) for name in samples.names)
    before = first.stat().st_mtime_ns
    second.unlink()
    assert group_images(samples, tmp_path / "trees", None, FAST) == {}
    assert first.stat().st_mtime_ns == before and second.exists()


def test_workers_write_the_same_files(tmp_path):
    samples = write_images(
        tmp_path / "images", {"a": CROP[:60], "b": CROP[60:], "bad": b"no", "c": CROP[:, :50]}
    )
    failures = [
        group_images(samples, tmp_path / f"trees{workers}", None, FAST, workers) for workers in (1, 2)
    ]
    assert failures[0] == failures[1] and list(failures[0]) == ["toy/bad"]
    for name in ("toy/a", "toy/b", "toy/c"):
        one, two = (RegionTree.load(tree_path(tmp_path / f"trees{workers}", name)) for workers in (1, 2))
        np.testing.assert_array_equal(one.labels, two.labels)
        np.testing.assert_array_equal(one.heights, two.heights)


def test_a_folder_that_cannot_be_written_stops_at_once(tmp_path):
    samples = write_images(tmp_path / "images", {"a": CROP[:60]})
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match="cannot be written"):
        group_images(samples, tmp_path / "file", None, FAST)


def test_edge_maps_come_back(tmp_path):
    edge_map = np.random.default_rng(0).random((20, 30)).astype(np.float32)
    save_edge_map(tmp_path / "e.png", edge_map)
    np.testing.assert_allclose(load_edge_map(tmp_path / "e.png"), edge_map, atol=1 / 65535)
    (tmp_path / "cut.png").write_bytes((tmp_path / "e.png").read_bytes()[:30])
    for name in ("cut.png", "none.png"):
        with pytest.raises(InputError, match=name):
            load_edge_map(tmp_path / name)


def chain(heights):
    n = len(heights) + 1
    children = [[0, 1]] + [[k + 1, n + k - 1] for k in range(1, n - 1)]
    return RegionTree(
        np.arange(n, dtype=np.uint8)[None],
        np.array(children[: n - 1], np.uint16),
        np.array(heights, np.float32),
    )


def test_height_scale_in_closed_form():
    """Two regions at distance h: P(self) = 1 / (1 + exp(-s h / sigma))."""
    expected = 0.8 * np.log(0.85 / 0.15) / 0.25
    assert height_scale([chain([0.25])], 0.8, 0.85) == pytest.approx(expected, rel=1e-4)


@given(
    st.lists(st.lists(st.floats(0.01, 1), min_size=1, max_size=9), min_size=1, max_size=5),
    st.floats(0.6, 0.95),
)
@hypothesis_settings(max_examples=25, deadline=None)
def test_height_scale_brings_the_median_to_the_target(heights, target):
    trees = [chain(sorted(values)) for values in heights]
    scale = height_scale(trees, 0.8, target)
    probability = [
        1 / sum(np.exp(-scale * d / 0.8) for d in row)
        for tree in trees
        for row in tree.distances().astype(float)
    ]
    assert np.median(probability) == pytest.approx(target, abs=2e-3)


def test_height_scale_without_a_tree_to_measure_says_so():
    with pytest.raises(InputError, match="height scale"):
        height_scale([chain([])], 0.8, 0.85)
