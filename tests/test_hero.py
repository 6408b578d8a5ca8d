"""README's strip: what it draws, and what it does without a network."""

import io
from pathlib import Path

import numpy as np
import pytest
from conftest import three_regions
from PIL import Image

from hgrl.core.errors import InputError
from hgrl.evaluation import shipped
from hgrl.evaluation.networks import load_network
from hgrl.reporting.figures import hero

HOME = Path(__file__).resolve().parents[1]


def test_an_anchors_spots_lie_where_the_equations_say():
    """The left half merges with the right one last, and far above all else."""
    tree = three_regions(80, 96)
    spots = hero.draw_spots(tree, (0.5, 0.1))
    assert spots["anchor"].tolist() == [[40, 9]]
    regions = {kind: tree.labels[tuple(places.T)] for kind, places in spots.items()}
    assert len(regions["positive"]) == len(regions["negative"]) == hero.DRAWN
    assert (regions["positive"] == 0).mean() > 0.8 and (regions["negative"] != 0).all()


def test_the_strip_has_nine_pictures_and_no_word():
    random, tree = np.random.default_rng(0), three_regions()
    image, edge_map = random.integers(0, 256, (40, 48, 3)).astype(np.uint8), random.random((40, 48))
    embeddings = list(random.random((2, 10, 12, 3)))
    figure = hero.hero_figure(image, edge_map, tree, hero.draw_spots(tree, hero.ANCHOR), embeddings)
    figure.savefig(io.BytesIO(), format="png", dpi=30)
    assert len(figure.axes) == 9
    texts = [text for axis in figure.axes for text in (axis.title, *axis.texts, *axis.get_xticklabels())]
    assert not any(text.get_text() for text in [*texts, *(axis.yaxis.label for axis in figure.axes)])


def test_the_strip_is_a_small_palette_file(tmp_path, monkeypatch):
    monkeypatch.setattr(hero, "SIDE", 64)
    monkeypatch.setattr(hero, "shipped_network", lambda experiment, run: load_network(experiment, run, 0))
    monkeypatch.setattr(hero, "RUN", "random")
    hero.write_hero(tmp_path / "hero.png")
    with Image.open(tmp_path / "hero.png") as strip:
        assert strip.mode == "P" and strip.width > 4 * strip.height
    assert (tmp_path / "hero.png").stat().st_size < 400_000


def test_readmes_own_strip_is_small():
    assert 20_000 < (HOME / "docs/hero.png").stat().st_size < 400_000


def test_without_a_shipped_network_there_is_no_strip(tmp_path, monkeypatch):
    monkeypatch.setattr(hero, "SIDE", 64)
    monkeypatch.setattr(shipped, "MODELS", tmp_path)
    with pytest.raises(InputError, match="no such model ships"):
        hero.write_hero(tmp_path / "hero.png")
    assert not (tmp_path / "hero.png").exists()
