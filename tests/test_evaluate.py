"""Scores of runs and seeds: kept while what made them is unchanged, made anew when it is not, and never lost."""

import errno
import json
import os
import shutil

import numpy as np
import pytest
import torch
import yaml
from conftest import SMALL_PARAMS, write_profile
from PIL import Image
from torchvision.models import resnet18, resnet50

from hgrl.core import paths, provenance
from hgrl.core.checkpoint import load_checkpoint, save_checkpoint
from hgrl.core.errors import InputError
from hgrl.core.settings import load_run, load_settings
from hgrl.data.images import read_mask
from hgrl.data.sources import data_root, open_samples
from hgrl.evaluation import stage as evaluation
from hgrl.evaluation.confusions import confusion_file, load_confusions
from hgrl.evaluation.stage import evaluate, load_network, prediction_file, seeds_of, summarise
from hgrl.metrics.segmentation import miou
from hgrl.pretraining import stage as stages


def line(*args):
    """The one line of the InputError that `evaluate` raises."""
    with pytest.raises(InputError) as caught:
        evaluate(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def score_file(stage, run, seed):
    return paths.artifacts("small") / "scores" / stage / f"{run}-seed{seed}.json"


@pytest.fixture
def scored(monkeypatch):
    """The (run, seed) scored from here on; retrieval, tracking and probe as they are."""
    done = []

    def remembering(task):
        return lambda settings, run, definition, seed, tick: (
            done.append((run, seed)),
            task(settings, run, definition, seed, tick),
        )[1]

    monkeypatch.setattr(
        evaluation, "TASKS", {stage: remembering(task) for stage, task in evaluation.TASKS.items()}
    )
    return done


def test_unchanged_scores_are_read_and_all_files_are_equal_when_made_again(pipeline, scored):
    first = evaluate("retrieval", "small")
    assert scored == [("lab", 0), ("lab", 1), ("ours", 0), ("ours", 1)]
    files = [*(paths.results("small") / "retrieval").glob("*.json"), paths.metrics("small", "retrieval")]
    before = {path: path.read_bytes() for path in files if not path.stem.endswith(".origin")}
    assert {path.name for path in before} == {"lab.json", "ours.json", "retrieval.json"}
    scored.clear()
    assert evaluate("retrieval", "small") == first
    assert scored == []
    assert {path: path.read_bytes() for path in before} == before
    assert (paths.results("small") / "retrieval/ours.origin.json").exists()


def test_metrics_are_means_and_deviations_of_the_seeds(pipeline):
    scores = evaluate("retrieval", "small", "ours")["ours"]
    metrics = json.loads(paths.metrics("small", "retrieval").read_text())["ours"]["embedding"]
    values = [scores[seed]["embedding"]["miou"] for seed in (0, 1)]
    assert metrics["miou_mean"] == pytest.approx(np.mean(values))
    assert metrics["miou_std"] == pytest.approx(np.std(values, ddof=1))
    assert metrics["seeds"] == 2


@pytest.mark.parametrize("what", ["settings", "checkpoint", "code", "data"])
def test_a_score_whose_origin_has_changed_is_made_anew(pipeline, scored, monkeypatch, what):
    evaluate("retrieval", "small", "ours")
    scored.clear()
    if what == "settings":
        write_profile(pipeline, {"retrieval.segments": 4})
    elif what == "checkpoint":
        path = paths.checkpoints("small", "ours") / "seed1.pt"
        shutil.copy(path.with_name("seed0.pt"), path)
    elif what == "code":
        monkeypatch.setattr(evaluation, "code_fingerprint", lambda stage: "another")
    else:
        (paths.scenes("small") / "manifest.json").write_text("{}")
    evaluate("retrieval", "small", "ours")
    assert scored == ([("ours", 1)] if what == "checkpoint" else [("ours", 0), ("ours", 1)])


def test_a_change_of_another_stage_leaves_the_scores(pipeline, scored):
    evaluate("retrieval", "small", "ours")
    scored.clear()
    write_profile(pipeline, {"tracking.neighbours": 3, "probe.iterations": 9})
    evaluate("retrieval", "small", "ours")
    assert scored == []


@pytest.mark.parametrize("content", ['{"fingerprint": "abc", "sco', "", "[]", "{}", '"text"'])
def test_a_damaged_score_file_is_made_anew(pipeline, scored, content):
    first = evaluate("retrieval", "small", "lab")
    score_file("retrieval", "lab", 1).write_text(content)
    scored.clear()
    assert evaluate("retrieval", "small", "lab") == first
    assert scored == [("lab", 1)]


def test_scores_finished_before_a_failure_are_kept(pipeline, scored):
    spare = pipeline / "spare.pt"
    shutil.move(paths.checkpoints("small", "ours") / "seed1.pt", spare)
    message = line("retrieval", "small", "lab,ours")
    assert "seed1.pt: no such checkpoint; run `dvc repro` to train it" in message
    assert score_file("retrieval", "ours", 0).exists() and score_file("retrieval", "lab", 1).exists()
    shutil.move(spare, paths.checkpoints("small", "ours") / "seed1.pt")
    scored.clear()
    evaluate("retrieval", "small", "lab,ours")
    assert scored == [("ours", 1)]


def test_some_runs_keep_the_others_metrics_and_all_runs_drop_those_no_longer_listed(pipeline):
    evaluate("tracking", "small", "identity")
    evaluate("tracking", "small", "flow, lab")
    assert json.loads(paths.metrics("small", "tracking").read_text()).keys() == {"identity", "flow", "lab"}
    evaluate("tracking", "small")
    assert json.loads(paths.metrics("small", "tracking").read_text()).keys() == {"identity", "random"}


def test_trackers_that_draw_nothing_have_one_seed(pipeline):
    settings = load_settings("small")
    counts = {
        run: len(seeds_of("tracking", settings, load_run(run)))
        for run in ("identity", "flow", "lab", "random", "ours")
    }
    assert counts == {"identity": 1, "flow": 1, "lab": 1, "random": 2, "ours": 2}
    assert len(seeds_of("retrieval", settings, load_run("lab"))) == 2  # K-means starts at random
    scores = evaluate("tracking", "small", "identity")
    assert scores["identity"].keys() == {0}
    assert 0 < scores["identity"][0]["j_mean"] <= 1


def test_a_random_network_differs_by_seed_and_not_by_call(pipeline):
    settings = load_settings("small")
    first, again, other = (
        load_network(settings, "random", "random", seed).state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert any(not torch.equal(value, other[key]) for key, value in first.items())


def test_the_evaluated_network_is_the_trained_one(pipeline):
    path = paths.checkpoints("small", "ours") / "seed1.pt"
    saved, network = (
        load_checkpoint(path).method,
        load_network(load_settings("small", "ours"), "ours", "hierarchical", 1),
    )
    assert all(torch.equal(value, saved[f"network.{key}"]) for key, value in network.state_dict().items())


def test_every_kind_of_run_passes_the_probe(pipeline):
    heads = {"linear-backbone", "linear-embedding"}
    scores = evaluate("probe", "small", "random,random-e2e,position,lab-position,ours")
    for run, seeds in scores.items():
        assert seeds.keys() == {0, 1}, run
        # end to end, one head alone trains the network
        read = {"linear-backbone"} if run == "random-e2e" else heads
        assert all(
            seed.keys() == read and 0 <= seed["linear-backbone"]["miou"] <= 1 for seed in seeds.values()
        )
        predicted = read_mask(prediction_file("small", run, 3))
        assert predicted.shape == (48, 48) and predicted.max() < 7


def test_the_probe_keeps_a_matrix_for_every_reported_image_which_add_up_to_the_score(pipeline):
    scores, settings = evaluate("probe", "small", "random")["random"], load_settings("small")
    val = open_samples(settings.data.probe_val, data_root(settings))
    scored = [(val.mask(index) != 255).sum() for index in range(len(val))]
    for seed in (0, 1):
        for head in ("linear-backbone", "linear-embedding"):
            matrices = load_confusions(confusion_file("small", "random", seed), head)
            assert matrices.shape == (4, 7, 7) and matrices.sum((1, 2)).tolist() == scored
            assert miou(matrices.sum(0)) == scores[seed][head]["miou"]
    with np.load(confusion_file("small", "random", 0)) as kept:
        assert kept["linear-backbone"].dtype == np.uint16
    assert "no head 'aspp-backbone' among the probed ones" in str(
        _error(load_confusions, confusion_file("small", "random", 0), "aspp-backbone")
    )


def _error(function, *args):
    with pytest.raises(InputError) as caught:
        function(*args)
    return caught.value


@pytest.mark.parametrize("what", ["missing", "damaged", "of another seed"])
def test_a_score_whose_matrices_are_gone_is_made_anew(pipeline, scored, what):
    first = evaluate("probe", "small", "position")
    path = confusion_file("small", "position", 1)
    content = path.read_bytes()
    if what == "missing":
        path.unlink()
    elif what == "damaged":
        path.write_bytes(content[:100])
        assert "damaged" in str(_error(load_confusions, path, "linear-embedding"))
    else:
        shutil.copy(confusion_file("small", "position", 0), path)
    scored.clear()
    assert evaluate("probe", "small", "position") == first
    assert scored == [("position", 1)]
    assert path.read_bytes() == content
    scored.clear()
    evaluate("probe", "small", "position")
    assert scored == []


def test_an_unknown_run_is_one_line_with_the_known_ones(pipeline):
    message = line("probe", "small", "ours,oars")
    assert "no run named 'oars'" in message and "lab-position" in message
    assert not score_file("probe", "ours", 0).exists()  # found before anything is computed


def test_a_missing_list_of_runs_is_one_line(pipeline):
    paths.PARAMS.write_text("profile: small\nruns: {random: {method: random}}\n")
    assert line("probe", "small") == f"{paths.PARAMS}: section 'probe' is missing or not a list of runs"


def test_an_unknown_method_is_one_line_with_the_known_ones(pipeline):
    paths.PARAMS.write_text("runs: {odd: {method: hierarchial}}\n")
    message = line("retrieval", "small", "odd")
    assert "unknown method 'hierarchial'" in message and "hierarchical" in message


def test_a_checkpoint_of_another_network_is_one_line(pipeline):
    write_profile(pipeline, {"network.width": 16})
    message = line("retrieval", "small", "ours")
    assert str(paths.checkpoints("small", "ours") / "seed0.pt") in message and "another network" in message


def test_a_cut_off_checkpoint_is_one_line(pipeline):
    path = paths.checkpoints("small", "ours") / "seed0.pt"
    path.write_bytes(path.read_bytes()[:2000])
    message = line("tracking", "small", "ours")
    assert str(path) in message and "cut off" in message


def test_a_half_trained_network_is_not_scored(pipeline):
    path = paths.checkpoints("small", "ours") / "seed0.pt"
    saved = load_checkpoint(path)
    object.__setattr__(saved, "step", 2)
    save_checkpoint(path, saved)
    assert (
        line("tracking", "small", "ours")
        == f"{path}: trained to step 2 of 6 only; run `dvc repro` to finish it"
    )


def test_a_tracker_cannot_be_probed_and_a_baseline_not_trained(pipeline):
    assert "method 'flow' tracks masks and has no features" in line("probe", "small", "flow")
    paths.PARAMS.write_text("runs: {odd: {method: position, end_to_end: true}}\n")
    assert "method 'position' has nothing to train end to end" in line("probe", "small", "odd")


@pytest.mark.parametrize("stage", ["probe", "retrieval"])
def test_a_mask_of_another_size_than_its_image_is_named(pipeline, stage):
    mask = sorted((paths.scenes("small") / "VOC2012/SegmentationClass").glob("val_*.png"))[-1]
    Image.fromarray(np.zeros((9, 7), np.uint8)).save(mask)
    message = line(stage, "small", "lab")
    assert message.startswith(f"{mask}: mask is 7x9 but its image")


def test_a_tracking_mask_of_another_size_than_its_frame_is_named(pipeline):
    mask = sorted((paths.scenes("small") / "DAVIS/Annotations").rglob("*.png"))[-1]
    Image.fromarray(np.zeros((9, 7), np.uint8)).save(mask)
    assert str(mask) in line("tracking", "small", "identity")


def test_a_full_disk_is_one_line_and_loses_nothing(pipeline, scored, monkeypatch):
    evaluate("retrieval", "small", "lab")
    folders = (paths.artifacts("small") / "scores", paths.results("small"))
    before = {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:

        def full(descriptor):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr("hgrl.core.files.os.fsync", full)
        message = line("retrieval", "small", "ours")
    assert "No space left on device" in message and str(score_file("retrieval", "ours", 0)) in message
    assert {
        path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()
    } == before
    scored.clear()
    evaluate("retrieval", "small", "lab,ours")
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


def test_the_code_fingerprint_of_every_stage_is_known():
    assert evaluation.TASKS.keys() <= provenance.CODE.keys()


@pytest.fixture
def rivals(pipeline):
    stages.prepare("small", "moco")
    return pipeline


def test_methods_that_train_the_backbone_alone_are_read_there_alone(rivals):
    assert evaluate("probe", "small", "moco")["moco"][0].keys() == {"linear-backbone"}
    assert evaluate("retrieval", "small", "moco")["moco"][0].keys() == {"backbone"}
    assert evaluate("retrieval", "small", "ours")["ours"][0].keys() == {"embedding", "backbone"}
    scores = evaluate("tracking", "small", "moco,ours,ours-backbone")
    assert 0 <= scores["moco"][0]["j_mean"] <= 1 and scores["ours"] != scores["ours-backbone"]
    write_profile(rivals, {"tracking.layer": "backbone"})
    assert evaluate("tracking", "small", "moco,ours") == {
        "moco": scores["moco"],
        "ours": scores["ours-backbone"],
    }


def test_a_network_joined_with_colour_alone_tracks_as_colour_does(pipeline):
    scores = evaluate("tracking", "small", "lab,ours,ours-lab")
    j = {run: seeds[0]["j_mean"] for run, seeds in scores.items()}
    assert j["ours-lab"] == pytest.approx(j["lab"]) and j["ours-lab"] != j["ours"]


def test_heads_on_untrained_layers_alone_are_one_line(rivals):
    write_profile(rivals, {"probe.heads": ["linear-embedding"]})
    assert "none reads a layer that method 'moco' trains (backbone)" in line("probe", "small", "moco")


def test_fine_tuning_starts_from_the_other_runs_checkpoint_by_the_protocol_of_mocos_paper(
    rivals, scored, monkeypatch
):
    seen = []
    real = evaluation.train_probe

    def remembering(features, train, settings, seed, trained, workers):
        weights = load_checkpoint(paths.checkpoints("small", "moco") / f"seed{seed}.pt").method
        same = all(
            torch.equal(value, weights[f"network.{key}"]) for key, value in trained.state_dict().items()
        )
        protocol = (
            settings.end_to_end_iterations,
            settings.lr,
            settings.weight_decay,
            settings.crop_size,
            settings.fcn_dilation,
        )
        seen.append((same, settings.heads, *protocol))
        heads = real(features, train, settings, seed, trained, workers)
        assert any(
            not torch.equal(value, weights[f"network.{key}"]) for key, value in trained.state_dict().items()
        )
        return heads

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "train_probe", remembering)
        scores = evaluate("probe", "small", "moco-e2e")["moco-e2e"]
    assert seen == [(True, ("fcn-backbone",), 2, 0.003, 1e-4, 32, 1)] * 2
    assert scores[0].keys() == {"fcn-backbone"}
    evaluate("probe", "small", "random-e2e,random")
    scored.clear()
    write_profile(rivals, {"finetune.lr": 0.1})
    evaluate("probe", "small", "moco-e2e,random-e2e,random")
    assert [run for run, _ in scored] == ["moco-e2e", "moco-e2e"]


def test_imagenet_is_left_out_where_it_cannot_be_had_and_named_it_says_why(
    pipeline, monkeypatch, capsys, tmp_path
):
    monkeypatch.setenv("HGRL_DATA", str(tmp_path / "data"))
    params = {**SMALL_PARAMS, "retrieval": ["lab", "imagenet"]}
    paths.PARAMS.write_text(yaml.safe_dump(params))
    assert evaluate("retrieval", "small").keys() == {"lab"}
    assert "run 'imagenet' is left out: weights are of another network" in capsys.readouterr().out
    assert "weights are of another network" in line("retrieval", "small", "imagenet")
    write_profile(pipeline, {"network": {}})
    assert evaluate("retrieval", "small").keys() == {"lab"}
    assert "run 'imagenet' is left out: weights file missing" in capsys.readouterr().out
    assert line("retrieval", "small", "imagenet").startswith(
        f"{tmp_path / 'data' / 'resnet50.pth'}: run 'imagenet': weights file missing; save "
    )
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "resnet50.pth").write_bytes(b"not weights")
    assert "not torchvision's resnet50 weights" in line("retrieval", "small", "imagenet")


def test_imagenets_weights_become_the_backbone(pipeline, monkeypatch, tmp_path):
    monkeypatch.setenv("HGRL_DATA", str(tmp_path))
    write_profile(pipeline, {"network": {}})
    theirs = resnet50(weights=None)
    torch.save(theirs.state_dict(), tmp_path / "resnet50.pth")
    network = load_network(load_settings("small"), "imagenet", "imagenet", 0)
    assert torch.equal(network.backbone.stages[2][5].conv3.weight, theirs.layer3[5].conv3.weight)
    torch.save(resnet18(weights=None).state_dict(), tmp_path / "resnet50.pth")
    assert "not torchvision's resnet50 weights" in line("retrieval", "small", "imagenet")
