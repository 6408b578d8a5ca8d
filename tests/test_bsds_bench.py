"""`python -m hgrl bsds-bench`: three kinds of results of toy images, and every way in which they can be
wrong.
"""

import json
import os
import signal

import numpy as np
import pytest
from conftest import three_regions
from matplotlib.figure import Figure
from PIL import Image
from scipy.io import savemat
from toy_bsds import COARSE, FINE, NAMES, TREE, ucm2_of, write_data_set, write_results

from hgrl import __main__ as cli
from hgrl.core import files as store
from hgrl.data.sets.bsds import open_bsds
from hgrl.grouping import bsds_benchmark as bsds_bench
from hgrl.grouping.bsds_benchmark import load_counts
from hgrl.grouping.region_tree import RegionTree
from hgrl.metrics import bsds
from hgrl.metrics.regions import covering
from hgrl.metrics.video import boundary_map
from hgrl.reporting.figures import bsds as figures_bsds


@pytest.fixture(autouse=True)
def small_figure(monkeypatch, request):
    """A drawing takes a third of a second: most tests need none."""
    if request.node.name != "test_the_command_writes_the_curve":
        monkeypatch.setattr(figures_bsds, "precision_recall_figure", lambda curves: Figure((1, 1)))


@pytest.fixture
def data(tmp_path):
    return write_data_set(tmp_path / "BSDS500")


def run_benchmark(results, data, out, limit=None, every=1, **options):
    samples = open_bsds(data.parent, data.name, "test")
    samples = samples.subset(range(len(samples))[::every][:limit])
    return bsds_bench.run_benchmark(results, samples, out, **options)


@pytest.fixture
def results(tmp_path):
    """A function that writes results of a kind for all images and gives their folder."""
    return lambda kind, nested=False: write_results(tmp_path / kind, kind, nested)


@pytest.mark.parametrize("kind", ["edges", "ucm", "trees"])
def test_the_annotators_own_tree_scores_nearly_1(data, results, kind, tmp_path):
    """The tree holds both annotators' segmentations: the fine one under .25, the coarse one above."""
    result = run_benchmark(results(kind), data, tmp_path / "out.json", thresholds=9, workers=1)
    assert result["kind"] == kind and result["images"] == 3 and result["missing"] == {}
    curve = zip(result["recall"], result["precision"], strict=True)
    at = dict(zip(np.round(result["thresholds"], 1), curve, strict=True))
    # thinning takes a pixel off the junction, none off the annotators' maps
    assert at[0.1] == at[0.2] == (pytest.approx(1, abs=0.05), 1)
    fine, coarse = (np.count_nonzero(boundary_map(labels)) for labels in (FINE, COARSE))
    assert at[0.5] == (pytest.approx(2 * coarse / (fine + coarse), abs=0.03), 1)
    assert at[0.9] == (0, 0)
    assert result["ois"] == pytest.approx(result["ods"]) and 0.97 < result["ods"] <= 1
    if kind != "edges":
        assert result["covering_best"] == 1
        assert result["covering_ods"] == pytest.approx(
            max(covering(FINE, COARSE), covering(COARSE, FINE)) / 2 + 0.5
        )


def test_a_tree_and_its_contour_map_score_the_same(data, results, tmp_path):
    tree, ucm = (
        run_benchmark(results(kind), data, tmp_path / f"{kind}.json", thresholds=7, workers=1)
        for kind in ("trees", "ucm")
    )
    assert tree["per_image"] == ucm["per_image"]


def test_the_file_holds_what_the_report_is_made_of(data, results, tmp_path):
    out = tmp_path / "deep/out.json"
    result = run_benchmark(results("trees", nested=True), data, out, thresholds=9, workers=2)
    assert json.loads(out.read_text()) == result
    assert result["seconds"] > 0 and result["workers"] == 2 and result["split"] == "test"
    counts = load_counts(out)
    assert counts.names == NAMES
    figures = bsds.benchmark_figures(counts)
    assert figures == pytest.approx({name: result[name] for name in figures})
    assert [path.name for path in out.parent.iterdir()] == ["out.json"]
    assert "3 images of test, 9 thresholds" in bsds_bench.result_text(result)


def test_counts_are_read_as_they_were_scored(data, results, tmp_path, monkeypatch):
    scored = {}
    gather = bsds.gather

    def recorded(names, thresholds, scores):
        scored.update(zip(names, scores, strict=True))
        return gather(names, thresholds, scores)

    for kind in ("edges", "trees"):
        monkeypatch.setattr(bsds, "gather", recorded)
        run_benchmark(results(kind), data, tmp_path / f"{kind}.json", thresholds=4, workers=1)
        monkeypatch.setattr(bsds, "gather", gather)
        counts = load_counts(tmp_path / f"{kind}.json")
        again = gather(NAMES, counts.thresholds, [scored[name] for name in NAMES])
        for found, expected in zip(counts.boundaries, again.boundaries, strict=True):
            assert np.array_equal(found, expected)
        assert (counts.regions is None) == (kind == "edges")
        for found, expected in zip(counts.regions or (), again.regions or (), strict=True):
            assert found == pytest.approx(expected, rel=1e-9)


def kill_this_process(task):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_one_line(capsys, data, results, monkeypatch):
    monkeypatch.setattr(bsds_bench, "_score_task", kill_this_process)
    status, out, lines = bench(capsys, results("trees"), data, "--workers", "2")
    assert status == 1 and out == "" and len(lines) == 1
    assert lines[0].startswith("hgrl: bsds-bench: a worker process was killed")


def test_an_interrupted_run_goes_on(data, results, tmp_path, monkeypatch):
    folder, out, scored = results("trees"), tmp_path / "out.json", []
    score_file = bsds_bench.score_file

    def stops_at_the_third(path, *rest):
        scored.append(path.stem)
        if len(scored) == 3:
            raise KeyboardInterrupt
        return score_file(path, *rest)

    monkeypatch.setattr(bsds_bench, "score_file", stops_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(folder, data, out, thresholds=5, workers=1)
    assert not out.exists() and scored == ["1", "2", "3"]
    # another result: scored again
    RegionTree(TREE.labels, TREE.children, TREE.heights / 2).save(folder / "2.npz")
    (tmp_path / "out.parts/1.json").write_text("{")  # cut off: scored again
    result = run_benchmark(folder, data, out, thresholds=5, workers=1)
    assert scored[3:] == ["1", "2", "3"]
    whole = run_benchmark(folder, data, tmp_path / "whole.json", thresholds=5, workers=1)
    assert result["per_image"] == whole["per_image"]
    assert result["per_image"]["1"] == result["per_image"]["3"] != result["per_image"]["2"]


def test_finished_images_are_not_scored_again(data, results, tmp_path, monkeypatch):
    folder, out, scored = results("trees"), tmp_path / "out.json", []
    score_file, gather = bsds_bench.score_file, bsds.gather
    monkeypatch.setattr(
        bsds_bench, "score_file", lambda path, *rest: scored.append(path.stem) or score_file(path, *rest)
    )

    def interrupted(*_):
        raise KeyboardInterrupt

    def interrupt(thresholds):
        monkeypatch.setattr(bsds, "gather", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_benchmark(folder, data, out, thresholds=thresholds, workers=1)
        monkeypatch.setattr(bsds, "gather", gather)

    interrupt(5)
    run_benchmark(folder, data, out, thresholds=5, workers=1)
    assert scored == list(NAMES)
    out.unlink()
    interrupt(5)
    run_benchmark(folder, data, out, thresholds=6, workers=1)
    assert len(scored) == 9  # other thresholds are another score


def test_a_part_of_the_images(data, results, tmp_path):
    folder = results("trees")
    assert list(
        run_benchmark(folder, data, tmp_path / "a.json", thresholds=3, workers=1, every=2)["per_image"]
    ) == ["1", "3"]
    assert list(
        run_benchmark(folder, data, tmp_path / "b.json", thresholds=3, workers=1, limit=2)["per_image"]
    ) == ["1", "2"]


def bench(capsys, folder, data, *more):
    status = cli.main(
        ["bsds-bench", str(folder), "--data", str(data), "--thresholds", "3", "--workers", "1", *more]
    )
    output = capsys.readouterr()
    return status, output.out, [line for line in output.err.splitlines() if line.startswith("hgrl: ")]


def test_the_command_prints_the_table(capsys, data, results):
    folder = results("ucm")
    status, out, lines = bench(capsys, folder, data)
    assert status == 0 and lines == [] and out.startswith("Boundary\nODS: F( ") and "GT covering" in out


def test_the_command_writes_the_curve(capsys, data, results):
    folder = results("ucm")
    assert bench(capsys, folder, data)[0] == 0 and folder.with_name("ucm-bsds.json").is_file()
    with Image.open(folder.with_name("ucm-bsds.png")) as picture:
        assert min(picture.size) > 300
    assert bench(capsys, folder, data)[0] == 0  # its own files are written over


@pytest.mark.parametrize(("name", "words"), [
    ("ucm-bsds.json", "not a result of `python -m hgrl bsds-bench`"),
    ("ucm-bsds.png", "no curve of this command"),
])  # fmt: skip
def test_a_file_of_the_users_own_is_not_written_over(capsys, data, results, name, words):
    folder = results("ucm")
    own = folder.with_name(name)
    own.write_text("{}")
    status, out, lines = bench(capsys, folder, data)
    assert status == 1 and out == "" and len(lines) == 1 and words in lines[0]
    assert own.read_text() == "{}" and not folder.with_name("ucm-bsds.parts").exists()


def damaged(folder, kind):
    path = next(folder.glob("2.*"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if kind == "cut off" else b"")


@pytest.mark.parametrize("kind", ["edges", "ucm", "trees"])
@pytest.mark.parametrize("how", ["cut off", "empty"])
def test_a_damaged_result_is_named_and_left_out(capsys, data, results, kind, how):
    folder = results(kind)
    damaged(folder, how)
    status, out, lines = bench(capsys, folder, data)
    assert status == 1 and "2 images of test (1 MISSING)" in out
    assert len(lines) == 1 and lines[0].startswith(f"hgrl: 2: {folder}/2.")


def test_a_missing_result_is_named_and_left_out(capsys, data, results):
    folder = results("ucm")
    (folder / "3.mat").unlink()
    status, out, lines = bench(capsys, folder, data)
    assert status == 1 and "(1 MISSING)" in out and lines == [f"hgrl: 3: {folder}: no file for this image"]


def write_wrong_size(folder, kind):
    if kind == "edges":
        store.write_png(folder / "1.png", np.zeros((24, 31), np.uint8))
    elif kind == "ucm":
        savemat(folder / "1.mat", {"ucm2": np.zeros((49, 63))})
    else:
        three_regions(24, 31).save(folder / "1.npz")


@pytest.mark.parametrize("kind", ["edges", "ucm", "trees"])
def test_a_result_of_another_size_is_named(capsys, data, results, kind):
    folder = results(kind)
    write_wrong_size(folder, kind)
    status, _, lines = bench(capsys, folder, data)
    assert (
        status == 1
        and len(lines) == 1
        and "is of a 31x24 image, but the image is 32x24; write it at the image's size" in lines[0]
    )


@pytest.mark.parametrize(("content", "words"), [
    ({"ucm": np.zeros((49, 65))}, "no `ucm2` in it"),
    ({"ucm2": np.zeros((24, 32))}, "2 x the image's height and width"),
    ({"ucm2": np.full((49, 65), 1.5)}, "outside [0, 1]"),
    ({"ucm2": np.full((49, 65), np.nan)}, "outside [0, 1]"),
    ({"ucm2": np.full((49, 65), "a")}, "must be numbers"),
])  # fmt: skip
def test_a_mat_file_of_something_else(capsys, data, results, content, words):
    folder = results("ucm")
    savemat(folder / "1.mat", content)
    status, _, lines = bench(capsys, folder, data)
    assert status == 1 and len(lines) == 1 and words in lines[0]


def test_whole_numbers_in_a_ucm2_are_scaled(data, results, tmp_path):
    folder = results("ucm")
    floats = run_benchmark(folder, data, tmp_path / "a.json", thresholds=3, workers=1)
    for name in NAMES:
        savemat(folder / f"{name}.mat", {"ucm2": np.rint(ucm2_of(TREE) * 255).astype(np.uint8)})
    assert run_benchmark(folder, data, tmp_path / "b.json", thresholds=3, workers=1)["ods"] == floats["ods"]


@pytest.mark.parametrize("kind", ["ucm", "edges"])
def test_0_and_1_as_whole_numbers_are_named(capsys, data, results, kind):
    """Scaled by their type's largest they are below every threshold: ODS would be 0 without a word."""
    folder = results(kind)
    if kind == "ucm":
        savemat(folder / "1.mat", {"ucm2": (ucm2_of(TREE) > 0).astype(np.uint8)})
    else:
        store.write_png(folder / "1.png", boundary_map(TREE.labels).astype(np.uint8))
    status, out, lines = bench(capsys, folder, data)
    assert status == 1 and "2 images of test (1 MISSING)" in out and len(lines) == 1
    assert f"{folder}/1." in lines[0] and "0 and 1 alone" in lines[0]


@pytest.mark.parametrize("wrong", [
    np.stack([FINE] * 3, -1), np.where(FINE == 1, np.nan, FINE), FINE - 1, FINE.astype(int) - 2, FINE / 2,
])  # fmt: skip
@pytest.mark.parametrize("kind", ["edges", "trees"])
def test_a_ground_truth_that_is_none_is_named(capsys, data, results, kind, wrong):
    path = data / "data/groundTruth/test/1.mat"
    cell = np.empty((1, 1), object)
    cell[0, 0] = {"Segmentation": wrong, "Boundaries": boundary_map(FINE).astype(np.uint8)}
    savemat(path, {"groundTruth": cell})
    status, out, lines = bench(capsys, results(kind), data)
    assert status == 1 and "2 images of test (1 MISSING)" in out and len(lines) == 1
    assert lines[0].startswith(f"hgrl: 1: {path}: Segmentation ")


def test_sixteen_bits_are_read_and_colours_are_not(capsys, data, results):
    folder = results("edges")
    store.write_png(folder / "1.png", np.full((24, 32), 65535, np.uint16))
    assert bsds_bench.load_edges(folder / "1.png").max() == 1
    store.write_png(folder / "1.png", np.zeros((24, 32, 3), np.uint8))
    status, _, lines = bench(capsys, folder, data)
    assert status == 1 and "has 3 channels; write the edge map as" in lines[0]


def test_nothing_to_score_is_one_line(capsys, data, results, tmp_path):
    folder = results("trees")
    (tmp_path / "empty").mkdir()
    cases = {
        (tmp_path / "nowhere", data): "no such folder; give the folder",
        (tmp_path / "empty", data): "no result for any of the 3 images (looked for 1.png, 1.mat, 1.npz, ...)",
        (folder, tmp_path / "elsewhere"): "no such folder",
    }
    for (results_folder, root), words in cases.items():
        status, out, lines = bench(capsys, results_folder, root)
        assert status == 1 and out == "" and len(lines) == 1 and words in lines[0]
    for more, words in {
        ("--kind", "ucm"): "looked for 1.mat",
        ("--split", "val"): "val",
        ("--workers", "0"): "--workers is 0; it must be at least 1",
        ("--limit", "0"): "--limit is 0; it must be at least 1",
        ("--out", str(tmp_path / "a.txt")): "ends in .json",
    }.items():
        status, out, lines = bench(capsys, folder, data, *more)
        assert status == 1 and out == "" and len(lines) == 1 and words in lines[0]


def test_all_results_damaged_is_an_error(capsys, data, results, tmp_path):
    folder = results("edges")
    for path in folder.iterdir():
        path.write_bytes(b"")
    status, out, lines = bench(capsys, folder, data)
    assert status == 1 and out == "" and len(lines) == 1 and "1.png: cannot be read" in lines[0]
    assert not (tmp_path / "edges-bsds.json").exists()


def test_two_kinds_in_a_folder_must_be_told_apart(capsys, data, results):
    folder = results("trees")
    for name in NAMES:
        store.write_png(folder / f"{name}.png", np.zeros((24, 32), np.uint8))
    status, _, lines = bench(capsys, folder, data)
    assert status == 1 and "several kinds (edges, trees); choose one with --kind" in lines[0]
    status, out, _ = bench(capsys, folder, data, "--kind", "trees")
    assert status == 0 and "GT covering" in out


def test_another_json_file_holds_no_counts(tmp_path):
    for content in ({}, [], {"thresholds": [0.5], "per_image": {"a": 3}}):
        store.write_json(tmp_path / "a.json", content)
        with pytest.raises(ValueError, match="not a result of `python -m hgrl bsds-bench`"):
            load_counts(tmp_path / "a.json")
