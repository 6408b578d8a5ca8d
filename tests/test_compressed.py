"""Pictures that are committed, or stand in a page: how small they are, and which of them results keep."""

import io

import numpy as np
from conftest import write_profile
from PIL import Image
from skimage.data import chelsea

from hgrl.core.experiment import load_experiment
from hgrl.reporting.figures import compressed, output, panels


def test_of_the_pictures_of_single_runs_results_keep_the_one_that_is_shown(home):
    write_profile(home)
    picture = panels.picture_rows({"map": [np.eye(2)]})
    names = ("loss-ours-cns5-20", "embedding-moco", "embedding-ours-cns5-20")
    for name in names:
        output.save_figure(load_experiment("small"), name, picture, shows_images=True)
    for name in names:
        folder = "results" if name == output.SHOWN_RUN else "artifacts"
        assert [path.parts[-4] for path in home.rglob(f"{name}.png")] == [folder]


def test_a_saved_figure_is_small_and_equal_figures_are_equal_files(home):
    write_profile(home)
    noise = np.random.default_rng(0).random((3, 400, 400, 3))
    saved = []
    for _ in range(2):
        figure = panels.picture_rows({"a": noise, "b": 1 - noise}, size=6)  # three by two
        output.save_figure(load_experiment("small"), "map", figure, shows_images=True)
        saved.append((home / "results/small/figures/map.png").read_bytes())
    assert saved[0] == saved[1]
    with Image.open(io.BytesIO(saved[0])) as image:
        assert image.mode == "P" and image.width == output.WIDTH and len(image.getcolors()) <= 128
        assert image.width * image.height <= 1.01 * output.PIXELS


def test_a_tall_figure_is_narrower(home):
    write_profile(home)
    figure = panels.picture_rows({str(k): [np.eye(2)] for k in range(12)}, size=3)
    output.save_figure(load_experiment("small"), "map", figure, shows_images=True)
    with Image.open(home / "results/small/figures/map.png") as image:
        assert image.width < output.WIDTH // 2 and image.width * image.height <= 1.01 * output.PIXELS


def test_a_compressed_picture_is_a_palette_of_a_drawing_and_a_jpeg_of_a_photograph():
    drawing = np.full((90, 120, 4), 255, np.uint8)
    drawing[20:40, 30:70] = 10, 20, 30, 255
    drawing[60:, :, 3] = 0  # transparent: white
    kind, content = compressed.smallest(Image.fromarray(drawing), 500)
    shown = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert kind == "png" and (shown[60:] == 255).all() and shown[30, 50].tolist() == [10, 20, 30]
    kind, content = compressed.smallest(Image.fromarray(chelsea()), 225)
    assert kind == "jpeg" and Image.open(io.BytesIO(content)).size == (225, 150)
