"""Scores of runs and seeds: read while what made them is unchanged, made anew otherwise, and never lost."""

import errno
import json
import os
import shutil

import numpy as np
import pytest
import yaml
from conftest import change_profile, write_profile
from PIL import Image
from scores import evaluate, line, score_file, small

from hgrl.core import paths
from hgrl.core.cache import imported_modules
from hgrl.core.checkpoint import load_checkpoint, save_checkpoint
from hgrl.core.errors import InputError
from hgrl.data.images import read_mask
from hgrl.data.sources import open_samples
from hgrl.evaluation import scoring
from hgrl.evaluation import stage as evaluation
from hgrl.evaluation.probe import load_confusions
from hgrl.evaluation.stage import seeds_of, summarise
from hgrl.metrics.segmentation import miou


def test_unchanged_scores_are_read_and_all_files_are_equal_when_made_again(pipeline, scored):
    first = evaluate("retrieval")
    assert scored == [("lab", 0), ("lab", 1), ("ours", 0), ("ours", 1)]
    files = [*(small().files.results / "retrieval").glob("*.json"), small().files.metrics("retrieval")]
    before = {path: path.read_bytes() for path in files if not path.stem.endswith(".origin")}
    assert {path.name for path in before} == {"lab.json", "ours.json", "retrieval.json"}
    scored.clear()
    assert evaluate("retrieval") == first
    assert scored == []
    assert {path: path.read_bytes() for path in before} == before
    assert (small().files.results / "retrieval/ours.origin.json").exists()


def test_metrics_are_means_and_deviations_of_the_seeds(pipeline):
    scores = evaluate("retrieval", "ours")["ours"]
    metrics = json.loads(small().files.metrics("retrieval").read_text())["ours"]["scenes"]["embedding"]
    values = [scores[seed]["scenes"]["embedding"]["miou"] for seed in (0, 1)]
    assert metrics["miou_mean"] == pytest.approx(np.mean(values))
    assert metrics["miou_std"] == pytest.approx(np.std(values, ddof=1))
    assert metrics["seeds"] == 2


@pytest.mark.parametrize("what", ["settings", "checkpoint", "code", "data"])
def test_a_score_whose_origin_has_changed_is_made_anew(pipeline, scored, monkeypatch, what):
    evaluate("retrieval", "ours")
    scored.clear()
    if what == "settings":
        write_profile(pipeline, {"retrieval.segments": 4})
    elif what == "checkpoint":
        path = small().files.checkpoint("ours", 1)
        shutil.copy(path.with_name("seed0.pt"), path)
    elif what == "code":
        monkeypatch.setattr(evaluation, "code_mark", lambda module: "another")
    else:
        (small().files.data / "manifest.json").write_text("{}")
    evaluate("retrieval", "ours")
    assert scored == ([("ours", 1)] if what == "checkpoint" else [("ours", 0), ("ours", 1)])


def test_a_change_of_another_stage_leaves_the_scores(pipeline, scored):
    evaluate("retrieval", "ours")
    scored.clear()
    write_profile(pipeline, {"tracking.paper.neighbours": 3, "probe.iterations": 9})
    evaluate("retrieval", "ours")
    assert scored == []


@pytest.mark.parametrize("content", ['{"fingerprint": "abc", "sco', "", "[]", "{}", '"text"'])
def test_a_damaged_score_file_is_made_anew(pipeline, scored, content):
    first = evaluate("retrieval", "lab")
    score_file("retrieval", "lab", 1).write_text(content)
    scored.clear()
    assert evaluate("retrieval", "lab") == first
    assert scored == [("lab", 1)]


def test_scores_finished_before_a_failure_are_kept(pipeline, scored):
    spare = pipeline / "spare.pt"
    shutil.move(small().files.checkpoint("ours", 1), spare)
    message = line("retrieval", "lab,ours")
    assert "seed1.pt: no such checkpoint; run `dvc repro` to train it" in message
    assert score_file("retrieval", "ours", 0).exists() and score_file("retrieval", "lab", 1).exists()
    shutil.move(spare, small().files.checkpoint("ours", 1))
    scored.clear()
    evaluate("retrieval", "lab,ours")
    assert scored == [("ours", 1)]


def test_some_runs_keep_the_others_metrics_and_all_runs_drop_those_no_longer_listed(pipeline):
    evaluate("tracking", "identity")
    evaluate("tracking", "flow, lab")
    assert json.loads(small().files.metrics("tracking").read_text()).keys() == {"identity", "flow", "lab"}
    evaluate("tracking")
    assert json.loads(small().files.metrics("tracking").read_text()).keys() == {"identity", "random"}


def test_trackers_that_draw_nothing_have_one_seed(pipeline):
    counts = {
        run: len(seeds_of("tracking", small().run(run)))
        for run in ("identity", "flow", "lab", "random", "ours")
    }
    assert counts == {"identity": 1, "flow": 1, "lab": 1, "random": 2, "ours": 2}
    assert len(seeds_of("retrieval", small().run("lab"))) == 2  # K-means starts at random
    scores = evaluate("tracking", "identity")
    assert scores["identity"].keys() == {0}
    assert 0 < scores["identity"][0]["field"]["j_mean"] <= 1


def test_every_kind_of_run_passes_the_probe(pipeline):
    heads = {"linear-backbone", "linear-embedding"}
    scores = evaluate("probe", "random,random-e2e,position,lab-position,ours")
    for run, seeds in scores.items():
        assert seeds.keys() == {0, 1}, run
        # end to end, one head alone trains the network
        read = {"linear-backbone"} if run == "random-e2e" else heads
        own = [seed["scenes"] for seed in seeds.values()]
        assert all(seed.keys() == read and 0 <= seed["linear-backbone"]["miou"] <= 1 for seed in own)
        predicted = read_mask(small().files.prediction(run, 3, "scenes"))
        assert predicted.shape == (48, 48) and predicted.max() < 9


def test_the_probe_keeps_a_matrix_for_every_reported_image_which_add_up_to_the_score(pipeline):
    scores, settings = evaluate("probe", "random")["random"], small().settings
    val = open_samples(settings.data.primary.val, small().data_root)
    scored = [(val.mask(index) != 255).sum() for index in range(len(val))]
    for seed in (0, 1):
        for head in ("linear-backbone", "linear-embedding"):
            matrices = load_confusions(small().files.confusions("random", seed, "scenes"), head)
            assert matrices.shape == (4, 9, 9) and matrices.sum((1, 2)).tolist() == scored
            assert miou(matrices.sum(0)) == scores[seed]["scenes"][head]["miou"]
            published = load_confusions(small().files.all_confusions("random"), head)
            assert np.array_equal(published[seed], matrices)
    with np.load(small().files.confusions("random", 0, "scenes")) as kept:
        assert kept["linear-backbone"].dtype == np.uint16
    assert "no head 'aspp-backbone' among the probed ones" in str(
        _error(load_confusions, small().files.confusions("random", 0, "scenes"), "aspp-backbone")
    )


TUNE = {
    "train": {"kind": "voc", "folder": "VOC2012", "split": "train"},
    "val": {"kind": "voc", "folder": "VOC2012", "split": "tune", "classes": ["background", "ring"]},
}


def test_every_labelled_set_is_scored_by_itself(pipeline, scored):
    """Each has scores, matrices and predictions of its own; one more leaves the first as it was."""
    alone = {stage: evaluate(stage, "position" if stage == "probe" else "lab") for stage in MODULES_OF_SETS}
    few = {**TUNE, "train": {**TUNE["train"], "classes": TUNE["val"]["classes"]}}
    change_profile(pipeline, {"data.labelled": {**labelled_sets(pipeline), "tune": few}})
    for stage, before in alone.items():
        scored.clear()
        ((run, after),) = evaluate(stage, *before).items()
        metrics = json.loads(small().files.metrics(stage).read_text())[run]
        assert list(metrics) == ["scenes", "tune"] and scored == [(run, seed) for seed in (0, 0, 1, 1)]
        for seed in (0, 1):
            assert after[seed]["scenes"] == before[run][seed]["scenes"]
            own = after[seed]["tune"].values()
            assert all(list(scores["iou"]) == ["background", "ring"] for scores in own)
            if stage == "probe":
                path = small().files.confusions(run, seed, "tune")
                assert load_confusions(path, "linear-backbone").shape == (3, 2, 2)
    assert read_mask(small().files.prediction("position", 2, "tune")).max() < 2
    scored.clear()
    evaluate("probe", "position")
    assert scored == []


MODULES_OF_SETS = ("probe", "retrieval")


def labelled_sets(home):
    return yaml.safe_load((home / "profiles/small.yaml").read_text())["data"]["labelled"]


def _error(function, *args):
    with pytest.raises(InputError) as caught:
        function(*args)
    return caught.value


@pytest.mark.parametrize("what", ["missing", "damaged", "of another seed"])
def test_a_score_whose_matrices_are_gone_is_made_anew(pipeline, scored, what):
    first = evaluate("probe", "position")
    path = small().files.confusions("position", 1, "scenes")
    content = path.read_bytes()
    if what == "missing":
        path.unlink()
    elif what == "damaged":
        path.write_bytes(content[:100])
        assert "damaged" in str(_error(load_confusions, path, "linear-embedding"))
    else:
        shutil.copy(small().files.confusions("position", 0, "scenes"), path)
    scored.clear()
    assert evaluate("probe", "position") == first
    assert scored == [("position", 1)]
    assert path.read_bytes() == content
    scored.clear()
    evaluate("probe", "position")
    assert scored == []


def test_an_unknown_run_is_one_line_with_the_known_ones(pipeline):
    message = line("probe", "ours,oars")
    assert "no run named 'oars'" in message and "lab-position" in message
    assert not score_file("probe", "ours", 0).exists()  # found before anything is computed


def test_a_missing_list_of_runs_is_one_line(pipeline):
    paths.PARAMS.write_text("profile: small\nruns: {random: {method: random}}\n")
    assert line("probe") == f"{paths.PARAMS}: section 'probe' is missing or not a list of runs"


def test_an_unknown_method_is_one_line_with_the_known_ones(pipeline):
    paths.PARAMS.write_text("runs: {odd: {method: hierarchial}}\n")
    message = line("retrieval", "odd")
    assert "method 'hierarchial' is unknown" in message and "hierarchical" in message


def test_a_checkpoint_of_another_network_is_one_line(pipeline):
    write_profile(pipeline, {"network.width": 16})
    message = line("retrieval", "ours")
    assert str(small().files.checkpoint("ours", 0)) in message and "another network" in message


def test_a_damaged_checkpoint_is_one_line(pipeline):
    path = small().files.checkpoint("ours", 0)
    path.write_bytes(path.read_bytes()[:2000])
    message = line("tracking", "ours")
    assert str(path) in message and "damaged" in message


def test_a_half_trained_network_is_not_scored(pipeline):
    path = small().files.checkpoint("ours", 0)
    saved = load_checkpoint(path)
    object.__setattr__(saved, "step", 2)
    save_checkpoint(path, saved)
    assert line("tracking", "ours") == f"{path}: trained to step 2 of 6 only; run `dvc repro` to finish it"


def test_a_tracker_cannot_be_probed_and_a_baseline_not_trained(pipeline):
    assert "method 'flow' tracks masks and has no features" in line("probe", "flow")
    paths.PARAMS.write_text("runs: {odd: {method: position, end_to_end: true}}\n")
    assert "method 'position' has nothing to train end to end" in line("probe", "odd")


@pytest.mark.parametrize("stage", ["probe", "retrieval"])
def test_a_mask_of_another_size_than_its_image_is_named(pipeline, stage):
    mask = sorted((small().files.data / "VOC2012/SegmentationClass").glob("val_*.png"))[-1]
    Image.fromarray(np.zeros((9, 7), np.uint8)).save(mask)
    message = line(stage, "lab")
    assert message.startswith(f"{mask}: mask is 7x9 but its image")


def test_a_tracking_mask_of_another_size_than_its_frame_is_named(pipeline):
    mask = sorted((small().files.data / "DAVIS/Annotations").rglob("*.png"))[-1]
    Image.fromarray(np.zeros((9, 7), np.uint8)).save(mask)
    assert str(mask) in line("tracking", "identity")


def test_a_full_disk_is_one_line_and_loses_nothing(pipeline, scored, monkeypatch):
    evaluate("retrieval", "lab")
    folders = (small().files.artifacts / "scores", small().files.results)
    before = {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:

        def full(descriptor):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr("hgrl.core.files.os.fsync", full)
        message = line("retrieval", "ours")
    assert "No space left on device" in message and str(score_file("retrieval", "ours", 0)) in message
    assert {
        path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()
    } == before
    scored.clear()
    evaluate("retrieval", "lab,ours")
    assert scored == [("ours", 0), ("ours", 1)]


def test_summaries_go_down_into_dicts_and_leave_out_what_is_no_number():
    seeds = [
        {"miou": 0.2, "iou": {"a": 0.0, "b": None}, "name": "x", "curve": [1]},
        {"miou": 0.4, "iou": {"a": 1.0, "b": 0.5}, "name": "x", "curve": [2]},
    ]
    summary = summarise(seeds)
    assert summary == {
        "miou_mean": pytest.approx(0.3),
        "miou_std": pytest.approx(np.sqrt(0.02)),
        "seeds": 2,
        "iou": {"a_mean": 0.5, "a_std": pytest.approx(np.sqrt(0.5)), "seeds": 2},
    }
    assert summarise(seeds[:1])["miou_std"] == 0.0


@pytest.mark.parametrize("stage", evaluation.MODULES)
def test_every_module_that_scoring_imports_counts_or_is_declared_to_have_no_say(stage):
    """Modules that only a declared one imports would else be left out without a word."""
    module = evaluation.MODULES[stage].__name__
    counted = imported_modules(module, without=scoring.WITHOUT_SAY)
    declared = tuple(f"{name}." for name in scoring.WITHOUT_SAY)
    left_out = imported_modules(module).keys() - counted.keys()
    assert {module, "hgrl.pretraining.network", "hgrl.data.samples"} <= counted.keys()
    assert [name for name in left_out if not f"{name}.".startswith(declared)] == []


def test_no_module_is_declared_that_scoring_does_not_import():
    imported = imported_modules(*(module.__name__ for module in evaluation.MODULES.values()))
    for name in scoring.WITHOUT_SAY:
        assert any(f"{module}.".startswith(f"{name}.") for module in imported), name


@pytest.mark.parametrize(("stage", "own"), [
    ("probe", "metrics.segmentation"),
    ("probe", "evaluation.batches"),
    ("retrieval", "metrics.segmentation"),
    ("tracking", "metrics.video"),
    ("tracking", "evaluation.trackers.propagation"),
])  # fmt: skip
def test_what_makes_a_stages_scores_counts(stage, own):
    counted = imported_modules(evaluation.MODULES[stage].__name__, without=scoring.WITHOUT_SAY)
    assert f"hgrl.{own}" in counted


@pytest.mark.parametrize("edit", ["score", "matrices"])
def test_a_score_edited_by_hand_is_not_taken_over(pipeline, scored, edit):
    first = evaluate("probe", "position")
    if edit == "score":
        path = score_file("probe", "position", 1)
        content = json.loads(path.read_text())
        content["scores"]["linear-embedding"]["miou"] = 0.99
        path.write_text(json.dumps(content))
    else:
        path = small().files.confusions("position", 1, "scenes")
        matrices = dict(np.load(path))
        matrices["linear-embedding"][0] += np.eye(9, dtype=matrices["linear-embedding"].dtype)
        np.savez_compressed(path, **matrices)
    scored.clear()
    assert evaluate("probe", "position") == first and scored == [("position", 1)]


def test_a_stale_score_stands_until_its_successor_is_made(pipeline, monkeypatch):
    evaluate("retrieval", "lab")
    before = score_file("retrieval", "lab", 0).read_bytes()
    write_profile(pipeline, {"retrieval.segments": 4})
    with monkeypatch.context() as patch:
        patch.setattr(evaluation.retrieval, "retrieve", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            evaluate("retrieval", "lab")
    assert score_file("retrieval", "lab", 0).read_bytes() == before
    evaluate("retrieval", "lab")
    assert score_file("retrieval", "lab", 0).read_bytes() != before
