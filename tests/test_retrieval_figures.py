"""Figure 4's pictures, from tiny arrays: which segments are asked for, and how neighbours are marked."""

import dataclasses

import numpy as np
import pytest
from PIL import Image
from test_figures import IMAGES, LABELS, drawn

from hgrl.data.samples import Samples
from hgrl.evaluation.retrieval import Segments
from hgrl.reporting.figures import retrieval


@pytest.fixture
def retrieved(tmp_path):
    """(queries, samples): three images, each of the three stripes as its segments; class = stripe."""
    images, masks = [], []
    for index, image in enumerate(IMAGES):
        for kind, array, files in (("i", image, images), ("m", LABELS, masks)):
            files.append(tmp_path / f"{kind}{index}.png")
            Image.fromarray(array).save(files[-1])
    samples = Samples(("a", "b", "c"), tuple(images), tuple(masks), classes=("background", "left", "right"))
    grids = tuple(LABELS[::4, ::4] for _ in range(3))
    descriptors = np.tile(np.eye(3, dtype=np.float32), (3, 1))
    return Segments(grids, descriptors, np.repeat(np.arange(3), 3), np.tile(np.arange(3), 3)), samples


def test_queries_are_the_largest_pure_segments_of_different_classes(retrieved):
    segments, samples = retrieved
    rows = retrieval.query_rows(segments, samples, 2)
    assert segments.segment[rows].tolist() == [1, 2]  # a class each, none of the background
    assert retrieval.query_rows(segments, samples, 10) == rows
    halves = dataclasses.replace(segments, maps=tuple(grid // 2 for grid in segments.maps))
    with_ids = dataclasses.replace(halves, image=np.repeat(np.arange(3), 2), segment=np.tile([0, 1], 3))
    assert {*with_ids.segment[retrieval.query_rows(with_ids, samples, 2)]} == {1}  # 0 is half background


def test_the_same_place_is_the_segment_that_overlaps_most(retrieved):
    segments, _ = retrieved
    coarse = dataclasses.replace(segments, maps=(LABELS[::2, ::2],) * 3)
    shifted = dataclasses.replace(segments, maps=tuple(np.roll(grid, 1, axis=1) for grid in coarse.maps))
    assert retrieval.same_places([1, 5], coarse, shifted) == [1, 5]
    turned = dataclasses.replace(segments, maps=tuple(2 - grid for grid in coarse.maps))
    assert retrieval.same_places([0, 4, 8], coarse, turned) == [2, 4, 6]


def test_a_retrieval_grid_marks_right_and_wrong_neighbours_by_sign_and_by_colour(retrieved):
    segments, samples = retrieved
    tiles = retrieval.retrieval_tiles(segments, samples, segments, samples, [1, 5], [1, 1], neighbours=2)
    titles = [[tile.title for tile in row] for row in tiles]
    assert titles == [
        ["query: left", "✓ left 1.00", "✓ left 1.00"],
        ["query: left", "✗ right 1.00", "✗ right 1.00"],
    ]
    assert all(tile.mask.sum() == 16 * 8 for row in tiles for tile in row)
    figure = drawn(retrieval.retrieval_grid({"ours": tiles, "random": tiles}), axes=12)
    assert [figure.axes[3 * k].get_ylabel() for k in range(4)] == ["ours", "random"] * 2
    colours = [axis.title.get_color() for axis in figure.axes[:9:3] + figure.axes[1:9:6]]
    assert colours == ["black"] * 3 + [retrieval.COLOURS[True], retrieval.COLOURS[False]]


def test_a_retrieval_grid_of_uneven_rows_can_be_drawn():
    tile = retrieval.Tile(IMAGES[0], LABELS == 1, "x", right=False)
    drawn(retrieval.retrieval_grid({"ours": [[tile, tile], [tile]]}), axes=4)


def test_a_segment_map_says_how_many_segments_each_network_has():
    figure = drawn(
        retrieval.segment_map(IMAGES[0], {"ours": LABELS[::4, ::4], "random": LABELS[::8, ::8]}), axes=3
    )
    assert figure.axes[1].get_title() == "ours: 3 segments"
