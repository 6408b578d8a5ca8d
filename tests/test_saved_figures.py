"""Which pictures are saved, where, and how small."""

import io

import numpy as np
import pytest
from conftest import write_profile
from PIL import Image
from skimage.data import chelsea

from hgrl.core import notebook
from hgrl.core.experiment import load_experiment
from hgrl.reporting.figures import compressed, output, panels, scores


@pytest.fixture
def picture():
    return panels.picture_rows({"map": [np.eye(2)]})


@pytest.fixture
def photographs(home):
    """An experiment on photographs; `write_profile` gives one on scenes."""
    (home / "profiles/small.yaml").write_text("seeds: [0]\n")
    return load_experiment("small")


def test_pictures_of_scenes_are_results_and_those_of_other_images_stay_with_the_artefacts(
    home, picture, photographs
):
    output.save_figure(photographs, "map", picture, shows_images=True)
    assert (home / "artifacts/small/figures/map.png").exists() and not (home / "results").exists()
    write_profile(home)
    output.save_figure(load_experiment("small"), "map", picture, shows_images=True)
    folders = (home / "artifacts/small/figures", home / "results/small/figures")
    assert len({(folder / "map.png").read_bytes() for folder in folders}) == 1


def test_charts_are_results_whatever_the_data(home, photographs):
    figure = scores.score_bars({"": {"a": [1.0]}}, "score")
    output.save_figure(photographs, "bars", figure, shows_images=False)
    assert (home / "results/small/figures/bars.png").exists() and not (home / "artifacts").exists()


def test_of_the_pictures_of_single_runs_results_keep_the_one_that_is_shown(home, picture):
    write_profile(home)
    names = ("loss-ours-cns5-20", "embedding-moco", "embedding-ours-cns5-20")
    for name in names:
        output.save_figure(load_experiment("small"), name, picture, shows_images=True)
    for name in names:
        folder = "results" if name == output.SHOWN_RUN else "artifacts"
        assert [path.parts[-4] for path in home.rglob(f"{name}.png")] == [folder]


def test_a_saved_figure_is_small_and_equal_figures_are_equal_files(home):
    write_profile(home)
    noise = np.random.default_rng(0).random((3, 20, 20, 3)).repeat(20, 1).repeat(20, 2)
    saved = []
    for _ in range(2):
        figure = panels.picture_rows({"a": noise, "b": 1 - noise}, size=6)
        output.save_figure(load_experiment("small"), "map", figure, shows_images=True)
        saved.append((home / "results/small/figures/map.png").read_bytes())
    assert saved[0] == saved[1]
    with Image.open(io.BytesIO(saved[0])) as image:
        assert image.mode == "P" and image.width == output.WIDTHS[0] and len(image.getcolors()) <= 128
        assert image.height == pytest.approx(output.WIDTHS[0] * 2 / 3, rel=0.1)


def test_a_picture_of_much_detail_is_saved_smaller(home):
    write_profile(home)
    noise = np.random.default_rng(0).random((3, 400, 400, 3))
    figure = panels.picture_rows({"a": noise, "b": 1 - noise}, size=6)
    output.save_figure(load_experiment("small"), "map", figure, shows_images=True)
    path = home / "results/small/figures/map.png"
    assert path.stat().st_size < output.LARGEST and Image.open(path).width in output.WIDTHS[1:]


def test_a_compressed_picture_is_a_palette_of_a_drawing_and_a_jpeg_of_a_photograph():
    drawing = np.full((90, 120, 4), 255, np.uint8)
    drawing[20:40, 30:70] = 10, 20, 30, 255
    drawing[60:, :, 3] = 0  # transparent: white
    kind, content = compressed.smallest(Image.fromarray(drawing), 500)
    shown = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert kind == "png" and (shown[60:] == 255).all() and shown[30, 50].tolist() == [10, 20, 30]
    kind, content = compressed.smallest(Image.fromarray(chelsea()), 225)
    assert kind == "jpeg" and Image.open(io.BytesIO(content)).size == (225, 150)


def test_only_the_pipeline_saves_what_a_notebook_shows(home, picture, photographs, monkeypatch):
    monkeypatch.delenv(notebook.IN_PIPELINE, raising=False)
    committed = home / "results/small/figures/map.png"
    committed.parent.mkdir(parents=True)
    committed.write_bytes(b"committed")
    assert output.show(picture, photographs, "map", shows_images=False) is picture
    assert committed.read_bytes() == b"committed" and not (home / "artifacts").exists()
    monkeypatch.setenv(notebook.IN_PIPELINE, "1")
    assert output.show(picture, photographs, "map", shows_images=False, own=False) is picture
    assert committed.read_bytes() == b"committed"  # of another profile's results
    assert output.show(picture, photographs, "map", shows_images=False) is picture
    assert committed.read_bytes().startswith(b"\x89PNG")
