"""Grouping a data set: what is done, what is left alone, bad images, workers, the height scale."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from conftest import write_profile
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image
from test_processes import wait_for_the_end

from hgrl import __main__ as cli
from hgrl.core.errors import InputError
from hgrl.core.experiment import load_experiment
from hgrl.core.loading import grouping_preset
from hgrl.core.settings import GroupingSettings
from hgrl.data.samples import Samples
from hgrl.data.sets.folder import open_folder
from hgrl.grouping import edges, group, stage
from hgrl.grouping.forest.model import Forest
from hgrl.grouping.group import full_hierarchy, group_images, height_scale, region_tree
from hgrl.grouping.outputs import EDGE_LEVELS, edge_map_path, is_our_image, save_edge_map, tree_path
from hgrl.grouping.region_tree import RegionTree

FAST = GroupingSettings(spectral=False)
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
    edge_map, tree = region_tree(CROP, GroupingSettings(spectral=spectral))
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
    _, tree = region_tree(image, GroupingSettings(spectral=spectral, min_area=0))
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
    first, second = (region_tree(CROP, GroupingSettings())[1] for _ in range(2))
    for name in ("labels", "children", "heights"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def read_edge_map(path):
    with Image.open(path) as image:
        return np.array(image) / EDGE_LEVELS


def files_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_bad_image_does_not_stop_the_others(tmp_path):
    samples = write_images(
        tmp_path / "images", {"a": CROP, "bad": b"not an image", "b": CROP[:60], "grey": CROP[..., 0]}
    )
    failures = group_images(samples, tmp_path / "trees", FAST, edges=True)
    assert list(failures) == ["toy/bad"]
    assert "bad.png" in failures["toy/bad"] and "\n" not in failures["toy/bad"]
    for name in ("toy/a", "toy/b", "toy/grey"):
        tree = RegionTree.load(tree_path(tmp_path / "trees", name))
        assert tree.labels.shape == read_edge_map(edge_map_path(tmp_path / "trees", name)).shape
    assert not tree_path(tmp_path / "trees", "toy/bad").exists()


def test_photographs_are_never_written_over(tmp_path, monkeypatch):
    write_images(tmp_path / "photos", {"a": CROP, "b": CROP[:50]})
    before = files_of(tmp_path)
    monkeypatch.chdir(tmp_path)
    for arguments in (["photos/a.png", "photos/b.png", "--out", "."], ["photos", "--out", ".", "--edges"]):
        assert cli.main(["group", *arguments]) == 0
        assert {path: path.read_bytes() for path in before} == before
    assert {path.name for path in files_of(tmp_path)} == {
        *("a.png", "b.png", "a.npz", "b.npz", "a.edges.png", "b.edges.png")
    }


def test_a_folder_below_out_is_grouped_and_edge_maps_are_no_photographs(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    photos = tmp_path / "out" / "photos"
    write_images(photos, {"a": CROP, "mine.edges": CROP[:50]})
    for named, count in (([photos], 1), ([photos], 1), (sorted(photos.glob("*.png")), 2)):
        arguments = ["group", *map(str, named), "--out", str(tmp_path / "out"), "--edges"]
        assert cli.main(arguments) == 0
        assert f"{count} of {count} images" in capsys.readouterr().out
    assert is_our_image(photos / "a.edges.png") and not is_our_image(photos / "mine.edges.png")
    assert cli.main(["group", str(photos / "a.edges.png"), "--out", str(tmp_path / "new")]) == 1
    assert "give photographs" in capsys.readouterr().err


def test_equal_names_of_two_inputs_are_refused_before_any_work(tmp_path, capsys):
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        write_images(tmp_path / place / "photos", {"a": CROP})
    folders = [str(tmp_path / place / "photos") for place in ("one", "two")]
    assert cli.main(["group", *folders, "--out", str(tmp_path / "out")]) == 1
    assert "same name" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_image_whose_name_is_too_long_does_not_stop_the_others(tmp_path, workers):
    names = ["a" * 251, "b" * 245, "c" * 200]
    samples = write_images(tmp_path / "images", dict.fromkeys(names, CROP[:40]))
    failures = group_images(samples, tmp_path / "trees", FAST, workers, edges=True)
    assert set(failures) == {f"toy/{name}" for name in names[:2]}
    assert all("too long" in problem for problem in failures.values())
    assert tree_path(tmp_path / "trees", f"toy/{names[2]}").exists()


@pytest.mark.parametrize("workers", ["0", "-2"])
def test_no_workers_are_one_line(tmp_path, capsys, workers):
    assert cli.main(["group", str(tmp_path), "--out", str(tmp_path / "out"), "--workers", workers]) == 1
    assert capsys.readouterr().err == f"hgrl: group: --workers must be at least 1 (got {workers})\n"


def test_workers_write_the_same_files(tmp_path):
    samples = write_images(
        tmp_path / "images", {"a": CROP[:60], "b": CROP[60:], "bad": b"no", "c": CROP[:, :50]}
    )
    folders = {workers: tmp_path / f"trees{workers}" for workers in (1, 2)}
    failures = [group_images(samples, folder, FAST, workers) for workers, folder in folders.items()]
    assert failures[0] == failures[1] and list(failures[0]) == ["toy/bad"]
    for name in ("toy/a", "toy/b", "toy/c"):
        one, two = (tree_path(folder, name).read_bytes() for folder in folders.values())
        assert one == two


def test_a_folder_that_cannot_be_written_stops_at_once(tmp_path):
    samples = write_images(tmp_path / "images", {"a": CROP[:60]})
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match="cannot be written"):
        group_images(samples, tmp_path / "file", FAST)


def test_edge_maps_come_back(tmp_path):
    edge_map = np.random.default_rng(0).random((20, 30)).astype(np.float32)
    save_edge_map(tmp_path / "e.png", edge_map)
    np.testing.assert_allclose(read_edge_map(tmp_path / "e.png"), edge_map, atol=1 / EDGE_LEVELS)


@pytest.fixture
def photos(tmp_path):
    images = {
        f"{k:02}": skimage.data.astronaut()[5 * k : 5 * k + 90, 10 * k : 10 * k + 120] for k in range(12)
    }
    write_images(tmp_path / "photos", images)
    return tmp_path / "photos"


def test_each_image_is_decoded_once_and_the_forest_is_read_once(photos, tmp_path, monkeypatch):
    opened, forests = [], []
    real_open, real_load = Image.open, Forest.load
    monkeypatch.setattr(
        Image, "open", lambda path, *rest: opened.append(Path(path).name) or real_open(path, *rest)
    )
    monkeypatch.setattr(Forest, "load", lambda path: forests.append(path) or real_load(path))
    edges.shipped_forest.cache_clear()
    samples = open_folder([photos])
    for _ in range(2):  # the second time there is nothing to do
        assert group_images(samples, tmp_path / "trees", GroupingSettings()) == {}
    assert sorted(opened) == sorted(path.name for path in photos.iterdir())
    assert len(forests) == 1


def start_and_kill(photos, out):
    """Run the command in two processes and kill it alone (SIGKILL) as soon as there are two trees; the group
    its processes are in.
    """
    command = [sys.executable, "-m", "hgrl", "group", str(photos), "--out", str(out), "--workers", "2"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as run:
        while len(list(out.rglob("*.npz"))) < 2:
            assert run.poll() is None, "it ended before it could be killed"
            time.sleep(0.002)
        run.send_signal(signal.SIGKILL)
    return run.pid


def test_a_killed_run_leaves_no_process_and_goes_on_where_it_stopped(photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert wait_for_the_end(start_and_kill(photos, out))
    done = {path: path.stat().st_mtime_ns for path in out.rglob("*.npz")}
    assert 2 <= len(done) < 12
    assert cli.main(["group", str(photos), "--out", str(out)]) == 0
    assert "12 of 12 images" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert len([RegionTree.load(path) for path in out.rglob("*.npz")]) == 12


def killed(task):
    os._exit(1)


def test_a_killed_worker_is_one_line(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(group, "_group_one", killed)
    assert cli.main(["group", str(photos), "--out", str(tmp_path / "out"), "--workers", "2"]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hgrl: ")]
    assert len(lines) == 1 and "grouping: a worker process was killed" in lines[0]


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


def test_the_stage_is_done_only_with_the_trees_of_todays_settings_images_and_code(pipeline, monkeypatch):
    small, images = (
        load_experiment("small"),
        sorted((pipeline / "artifacts/small/data").rglob("unlabelled_*.jpg")),
    )
    assert stage.is_grouped(small)
    write_profile(pipeline, {"grouping.image_scale": 1.0})
    assert not stage.is_grouped(load_experiment("small"))
    write_profile(pipeline)
    with monkeypatch.context() as patch:
        patch.setattr(group, "code_fingerprint", lambda *modules: "other code")
        assert not stage.is_grouped(small)
    tree = small.files.tree_file(f"VOC2012/{images[0].stem}")
    content = tree.read_bytes()
    for damage in (lambda: tree.unlink(), lambda: tree.write_bytes(content[:-40])):
        damage()
        assert not stage.is_grouped(small)
        stage.group(small)
        assert stage.is_grouped(small) and tree.read_bytes() == content
    photo = images[0].read_bytes()
    images[0].write_bytes(images[1].read_bytes())
    assert not stage.is_grouped(small)
    tree.unlink()
    images[0].write_bytes(photo[:300])  # cannot be read, and so needs no tree, until it changes
    assert list(stage.group(small)["failures"]) == [f"VOC2012/{images[0].stem}"] and stage.is_grouped(small)
    images[0].write_bytes(photo)
    assert not stage.is_grouped(small)


def test_trees_of_images_that_left_the_set_go_and_other_files_stay(pipeline):
    small = load_experiment("small")
    own = sorted(small.files.trees().rglob("*.npz"))
    left, foreign = small.files.tree_file("Gone/a"), small.files.tree_file("VOC2012/mine")
    left.parent.mkdir()
    left.write_bytes(own[0].read_bytes())
    np.savez(foreign, data=np.arange(3))
    stage.group(small)
    assert sorted(small.files.trees().rglob("*.npz")) == sorted([*own, foreign]) and not left.parent.exists()
