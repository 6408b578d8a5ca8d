"""Networks that ship with the package: with a card, read where nothing was trained, never in place of it."""

import hashlib

import pytest
import torch
from scores import evaluate, small

from hgrl.core.errors import InputError
from hgrl.evaluation import shipped
from hgrl.evaluation.networks import load_network
from hgrl.reporting.shipping import ship


@pytest.fixture
def models(pipeline, tmp_path, monkeypatch):
    folder = tmp_path / "models"
    monkeypatch.setattr(shipped, "MODELS", folder)
    return folder


@pytest.fixture
def shipped_ours(models):
    evaluate("probe", "ours")
    return ship(small(), small().run("ours"), seed=1)


def without_checkpoint(monkeypatch, tmp_path):
    monkeypatch.setattr(shipped, "weights_file", lambda *_: tmp_path / "none.pt")


def test_what_was_trained_here_goes_before_what_ships(shipped_ours, capsys):
    here, shown = (read(small(), small().run("ours"), 0) for read in (load_network, shipped.network_to_show))
    assert all(torch.equal(value, here.state_dict()[name]) for name, value in shown.state_dict().items())
    assert "ships" not in capsys.readouterr().out


def test_without_a_checkpoint_the_shipped_network_is_read_and_says_so(
    shipped_ours, monkeypatch, tmp_path, capsys
):
    trained = load_network(small(), small().run("ours"), 1)
    without_checkpoint(monkeypatch, tmp_path)
    shown = shipped.network_to_show(small(), small().run("ours"), 0)
    assert "ours: nothing trained here yet" in capsys.readouterr().out
    for name, value in shown.state_dict().items():
        torch.testing.assert_close(value, trained.state_dict()[name], rtol=1e-3, atol=1e-6)


def test_an_embedding_hardly_differs_in_half_precision(shipped_ours, monkeypatch, tmp_path):
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    trained = load_network(small(), small().run("ours"), 1).eval()
    without_checkpoint(monkeypatch, tmp_path)
    shown = shipped.network_to_show(small(), small().run("ours"), 0).eval()
    with torch.no_grad():
        cosine = torch.cosine_similarity(trained(images), shown(images))
    assert cosine.min() > 0.999


def test_the_card_has_the_checksum_the_score_and_the_settings(shipped_ours):
    card = shipped_ours.with_suffix(".md").read_text()
    scores = evaluate("probe", "ours")["ours"][1]["scenes"]
    miou = scores[small().settings.probe.headline]["miou"]
    assert hashlib.sha256(shipped_ours.read_bytes()).hexdigest() in card
    assert f"mIoU {100 * miou:.1f} %" in card and "temperature:" in card and "## Terms" in card


def test_a_run_that_was_never_scored_does_not_ship(models):
    with pytest.raises(InputError, match=r"ours\.json"):
        ship(small(), small().run("ours"), seed=0)
    assert not models.exists()


def test_neither_trained_nor_shipped_is_one_line_with_a_remedy(models, monkeypatch, tmp_path):
    without_checkpoint(monkeypatch, tmp_path)
    with pytest.raises(InputError, match=r"'ours'.*not trained here, and none ships; train it"):
        shipped.network_to_show(small(), small().run("ours"), 0)


@pytest.mark.parametrize("content", [b"", b"no network", None])
def test_a_damaged_or_foreign_file_is_one_line(shipped_ours, content, monkeypatch, tmp_path):
    if content is None:
        torch.save({"weight": torch.zeros(3)}, shipped_ours)
    else:
        shipped_ours.write_bytes(content)
    with pytest.raises(InputError, match="damaged, or of another network"):
        shipped.shipped_network(small(), small().run("ours"))


def test_baselines_and_untrained_networks_need_no_model(models):
    run = small().run("random")
    untrained, shown = load_network(small(), run, 0), shipped.network_to_show(small(), run, 0)
    assert all(torch.equal(value, untrained.state_dict()[name]) for name, value in shown.state_dict().items())
