"""Trees as pictures, the photographs that they are of, and pictures that follow sliders."""

import base64
import io

import nbformat
import numpy as np
import pytest
from conftest import one_region, three_regions
from matplotlib.figure import Figure
from nbclient import NotebookClient
from PIL import Image

from hgrl.core.errors import InputError
from hgrl.reporting.figures import photographs, trees

random = np.random.default_rng(0)


def test_the_dendrogram_joins_two_leaves_where_they_merge_and_has_the_cuts_colours():
    figure = Figure()
    axes = figure.subplots()
    trees.dendrogram(axes, three_regions(), level=0.5)
    branches = axes.collections[0]
    heights = [segment[:, 1].tolist() for segment in branches.get_segments()]
    assert heights == [[0, 0.25, 0.25, 0], [0, 0.75, 0.75, 0.25]]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "1", "2"]
    alone, first, second = trees.leaf_colours(three_regions(), 0.5)
    assert (first == second).all() and (alone != first).any()
    np.testing.assert_array_equal(branches.get_colors(), [first, trees.UNCUT])  # merged, and not
    np.testing.assert_array_equal(axes.lines[-1].get_ydata(), [0.5, 0.5])


def test_a_tree_and_its_cut_are_two_pictures_of_which_the_first_counts_the_regions():
    image = random.integers(0, 256, (40, 48, 3)).astype(np.uint8)
    for level, count in ((0.0, 3), (0.3, 2), (1.0, 1)):
        figure = trees.tree_and_cut(image, three_regions(), level)
        figure.savefig(io.BytesIO(), format="png", dpi=40)
        assert f"{count} region" in figure.axes[0].get_title()
    assert len(trees.tree_and_cut(image, one_region(), 0.1).axes) == 2


def test_an_unknown_photograph_is_answered_by_the_choice():
    assert min(photographs.read_photograph("rocket", 32).shape[:2]) == 32
    with pytest.raises(InputError, match="no photograph or file 'cofee'; choose one of astronaut, chelsea, "):
        photographs.read_photograph("cofee", 32)


def test_a_live_picture_is_an_ordinary_output_that_a_moved_slider_replaces(tmp_path):
    """In a kernel: there alone a displayed picture can be replaced."""
    draw = """
from ipywidgets import IntSlider
from matplotlib.figure import Figure
from hgrl.reporting.figures.live import live

def draw(width):
    figure = Figure(figsize=(width, 1))
    figure.subplots()
    return figure

slider = IntSlider(1, 1, 5)
live(draw, width=slider)
"""
    widths = []
    for moved in ("", "slider.value = 3"):
        cells = [nbformat.v4.new_code_cell(cell) for cell in (draw, moved)]
        book = nbformat.v4.new_notebook(cells=cells)
        NotebookClient(book, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
        (picture,) = [out.data["image/png"] for out in book.cells[0].outputs if "image/png" in out.data]
        widths.append(Image.open(io.BytesIO(base64.b64decode(picture))).width)
    assert widths == [90, 270]
