"""Which network a run is evaluated on, which of its layers are read, and how fine-tuning goes on from it."""

import pytest
import torch
import yaml
from conftest import SMALL_PARAMS, write_profile
from scores import evaluate, line, small
from torchvision.models import resnet18, resnet50

from hgrl.core import paths
from hgrl.core.checkpoint import load_checkpoint
from hgrl.evaluation import probe
from hgrl.evaluation.networks import load_network
from hgrl.pretraining.stage import prepare


def test_a_random_network_differs_by_seed_and_not_by_call(pipeline):
    run = small().run("random")
    first, again, other = (load_network(small(), run, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert any(not torch.equal(value, other[key]) for key, value in first.items())


def test_the_evaluated_network_is_the_trained_one(pipeline):
    path = small().files.checkpoint("ours", 1)
    saved, network = load_checkpoint(path).method, load_network(small(), small().run("ours"), 1)
    assert all(torch.equal(value, saved[f"network.{key}"]) for key, value in network.state_dict().items())


@pytest.fixture
def rivals(pipeline):
    prepare(small(), "moco")
    return pipeline


def test_methods_that_train_the_backbone_alone_are_read_there_alone(rivals):
    assert evaluate("probe", "moco")["moco"][0]["scenes"].keys() == {"linear-backbone"}
    assert evaluate("retrieval", "moco")["moco"][0]["scenes"].keys() == {"backbone"}
    assert evaluate("retrieval", "ours")["ours"][0]["scenes"].keys() == {"embedding", "backbone"}
    scores = evaluate("tracking", "moco,ours,ours-backbone")
    assert 0 <= scores["moco"][0]["paper"]["j_mean"] <= 1 and scores["ours"] != scores["ours-backbone"]
    write_profile(rivals, {"tracking.layer": "backbone"})
    assert evaluate("tracking", "moco,ours") == {"moco": scores["moco"], "ours": scores["ours-backbone"]}


def test_a_network_joined_with_colour_alone_tracks_as_colour_does(pipeline):
    scores = evaluate("tracking", "lab,ours,ours-lab")
    j = {run: seeds[0]["paper"]["j_mean"] for run, seeds in scores.items()}
    assert j["ours-lab"] == pytest.approx(j["lab"]) and j["ours-lab"] != j["ours"]


def test_heads_on_untrained_layers_alone_are_one_line(rivals):
    write_profile(rivals, {"probe.heads": ["linear-embedding"]})
    assert "none reads a layer that method 'moco' trains (backbone, stages)" in line("probe", "moco")


def test_fine_tuning_starts_from_the_other_runs_checkpoint_by_the_protocol_of_mocos_paper(
    rivals, scored, monkeypatch
):
    seen = []
    real = probe.train_probe

    def remembering(features, train, settings, seed, end_to_end, workers):
        trained = features.network
        weights = load_checkpoint(small().files.checkpoint("moco", seed)).method
        same = all(
            torch.equal(value, weights[f"network.{key}"]) for key, value in trained.state_dict().items()
        )
        protocol = (
            settings.end_to_end.iterations,
            settings.end_to_end.lr,
            settings.weight_decay,
            settings.crop_size,
            settings.fcn_dilation,
        )
        seen.append((same, settings.heads, *protocol))
        heads = real(features, train, settings, seed, end_to_end, workers)
        assert any(
            not torch.equal(value, weights[f"network.{key}"]) for key, value in trained.state_dict().items()
        )
        return heads

    with monkeypatch.context() as patch:
        patch.setattr(probe, "train_probe", remembering)
        scores = evaluate("probe", "moco-e2e")["moco-e2e"]
    assert seen == [(True, ("fcn-backbone",), 2, 0.003, 1e-4, 32, 1)] * 2
    assert scores[0]["scenes"].keys() == {"fcn-backbone"}
    evaluate("probe", "random-e2e,random")
    scored.clear()
    write_profile(rivals, {"finetune.lr": 0.1})
    evaluate("probe", "moco-e2e,random-e2e,random")
    assert [run for run, _ in scored] == ["moco-e2e", "moco-e2e"]


def test_imagenet_is_left_out_where_it_cannot_be_had_and_named_it_says_why(
    pipeline, monkeypatch, capsys, tmp_path
):
    monkeypatch.setenv("HGRL_DATA", str(tmp_path / "data"))
    params = {**SMALL_PARAMS, "retrieval": ["lab", "imagenet"]}
    paths.PARAMS.write_text(yaml.safe_dump(params))
    assert evaluate("retrieval").keys() == {"lab"}
    assert "run 'imagenet' is left out: weights are of another network" in capsys.readouterr().out
    assert "weights are of another network" in line("retrieval", "imagenet")
    write_profile(pipeline, {"network": {}})
    assert evaluate("retrieval").keys() == {"lab"}
    assert "run 'imagenet' is left out: weights file missing" in capsys.readouterr().out
    assert line("retrieval", "imagenet").startswith(
        f"{tmp_path / 'data' / 'resnet50.pth'}: run 'imagenet': weights file missing; save "
    )
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "resnet50.pth").write_bytes(b"not weights")
    assert "not torchvision's resnet50 weights" in line("retrieval", "imagenet")


def test_imagenets_weights_become_the_backbone(pipeline, monkeypatch, tmp_path):
    monkeypatch.setenv("HGRL_DATA", str(tmp_path))
    write_profile(pipeline, {"network": {}})
    theirs = resnet50(weights=None)
    torch.save(theirs.state_dict(), tmp_path / "resnet50.pth")
    network = load_network(small(), small().run("imagenet"), 0)
    assert torch.equal(network.backbone.stages[2][5].conv3.weight, theirs.layer3[5].conv3.weight)
    torch.save(resnet18(weights=None).state_dict(), tmp_path / "resnet50.pth")
    assert "not torchvision's resnet50 weights" in line("retrieval", "imagenet")
