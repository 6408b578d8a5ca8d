"""docs/gallery.md's pictures: what they show, and what happens without a network."""

import numpy as np
import pytest
from PIL import Image

from hgrl.core.errors import InputError
from hgrl.evaluation import shipped
from hgrl.evaluation.networks import load_network
from hgrl.reporting import gallery


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.setattr(gallery, "SIDE", 48)
    monkeypatch.setattr(shipped, "MODELS", tmp_path / "models")


def test_a_sheet_shows_tree_and_embeddings_of_the_networks_that_ship(tmp_path, monkeypatch):
    def network(experiment, run):
        if experiment.profile == "photos":
            raise InputError("none ships")
        return load_network(experiment, experiment.run("random"), 1)

    monkeypatch.setattr(gallery, "shipped_network", network)
    (path,) = gallery.write_gallery(tmp_path, ["coffee"])
    sheet = np.asarray(Image.open(path))
    assert path.name == "coffee.jpg" and sheet.shape[1] == gallery.WIDTH
    rows, thirds = np.array_split(sheet, 3), gallery.WIDTH // 3
    assert all(row[:, k * thirds :][:, :thirds].std() > 5 for row in rows[:2] for k in range(3))
    assert all(rows[2][:, k * thirds :][:, :thirds].std() > 5 for k in range(2))  # untrained, one trained
    assert (rows[2][30:, 2 * thirds + 20 :] > 250).all()  # the one that does not ship


def test_a_readers_own_photograph_is_drawn_and_never_written_over(tmp_path, monkeypatch):
    monkeypatch.setattr(
        gallery,
        "shipped_network",
        lambda experiment, _: load_network(experiment, experiment.run("random"), 1),
    )
    own = tmp_path / "own.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(own)
    before = own.read_bytes()
    assert list(gallery.write_gallery(tmp_path / "out", [str(own)])) == [tmp_path / "out/own.jpg"]
    with pytest.raises(InputError, match="would take its place"):
        list(gallery.write_gallery(tmp_path, [str(own)]))
    assert own.read_bytes() == before
    with pytest.raises(InputError, match=r"no photograph or file 'far\.jpg'; choose one of astronaut"):
        list(gallery.write_gallery(tmp_path, ["far.jpg"]))


def test_without_any_network_there_is_no_gallery(tmp_path):
    with pytest.raises(InputError, match="no such model ships"):
        list(gallery.write_gallery(tmp_path / "gallery"))
    assert not (tmp_path / "gallery").exists()
