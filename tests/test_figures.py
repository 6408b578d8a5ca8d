"""Every picture of the notebooks, drawn from tiny arrays."""

import io

import numpy as np
import pytest
import torch
from conftest import write_profile
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from hgrl.core.settings import SamplingSettings
from hgrl.data.samples import Samples, Video
from hgrl.evaluation.retrieval import Segments
from hgrl.reporting.figures import objects as figures_objects
from hgrl.reporting.figures import pictures as figures
from hgrl.reporting.figures import retrieval as figures_retrieval
from hgrl.reporting.figures import scores as figures_scores
from hgrl.reporting.figures import tracking as figures_tracking
from hgrl.sampling.pixels import sample_pixels

random = np.random.default_rng(0)
IMAGES = random.integers(0, 256, (3, 16, 24, 3)).astype(np.uint8)
LABELS = np.repeat(np.arange(3, dtype=np.uint8), 8)[None].repeat(16, 0)  # three stripes of 16 x 8


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def drawn(figure, axes):
    """Asserts that a figure has so many axes and can be drawn."""
    assert isinstance(figure, Figure)
    assert len(figure.axes) == axes
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    return figure


def test_probability_maps_have_an_axis_and_a_colour_bar_each():
    maps = {"positive": np.array([0.1, 0.2, 0.7]), "negative": np.array([0.5, 0.5, 0.0])}
    figure = drawn(figures.probability_maps(IMAGES[0], LABELS, 1, maps), axes=1 + 2 + 2)
    shown = figure.axes[1].images[0].get_array()
    np.testing.assert_array_equal(shown[0, [0, 8, 16]], [0.1, 0.2, 0.7])


def test_outlines_are_yellow_and_the_rest_is_the_image():
    picture = figures.outlined(IMAGES[0], LABELS)
    assert (picture[:, 8] == [255, 221, 51]).all()
    np.testing.assert_array_equal(picture[:, 2:6], IMAGES[0][:, 2:6])


def test_sampled_pixels_lie_where_the_sample_says():
    labels = np.zeros((2, 2, 4, 4), np.uint8)
    labels[..., 2:] = 1
    # far apart: positives come from the anchor's own region
    distances = torch.tensor([[0.0, 9.0], [9.0, 0.0]]).expand(2, 2, 2)
    settings = SamplingSettings(anchors=1, positives=3, negatives=2, cns=0, height_unit="raw")
    sample = sample_pixels(torch.from_numpy(labels), distances, settings, 0, torch.Generator().manual_seed(0))
    images = random.integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
    figure = drawn(figures.sampled_pixels(images, labels[:, 1], sample, image=1, anchor=0), axes=2)
    dots = [[collection.get_offsets() for collection in axis.collections] for axis in figure.axes]
    assert sum(len(groups[2]) for groups in dots) == 1  # the anchor, in one of the views
    side = next(groups[2][0][0] for groups in dots if len(groups[2])) >= 32
    positives = np.concatenate([groups[1] for groups in dots])
    assert len(positives) and ((positives[:, 0] >= 32) == side).all()
    assert all((places >= 0).all() and (places <= 64).all() for groups in dots for places in groups)


def test_loss_curves_have_a_line_and_its_mean_for_each_run():
    curves = {"a": np.linspace(3, 1, 50), "b": np.array([2.0])}
    axis = drawn(figures.loss_curves(curves), axes=1).axes[0]
    assert len(axis.lines) == 4
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["a", "b"]


@pytest.mark.parametrize("shape", [(2, 8, 5, 6), (1, 3, 4, 4), (1, 32, 2, 1)])
def test_pca_colours_are_colours_whatever_the_scale(shape):
    embedding = torch.from_numpy(random.normal(size=shape)).float()
    colours = figures.pca_colours(embedding)
    assert colours.shape == (shape[0], *shape[2:], 3)
    assert colours.min() >= 0 and colours.max() <= 1
    np.testing.assert_allclose(figures.pca_colours(1000 * embedding), colours, atol=1e-3)


def test_pca_colours_tell_regions_apart_and_agree_between_images():
    embedding = torch.eye(4)[torch.from_numpy(LABELS.astype(int))].permute(2, 0, 1)  # a direction a region
    colours = figures.pca_colours(torch.stack([embedding, embedding.flip(2)]))
    np.testing.assert_allclose(colours[0], colours[1][:, ::-1], atol=1e-6)
    regions = [colours[0][k == LABELS] for k in range(3)]
    assert all(np.ptp(cells, axis=0).max() < 1e-6 for cells in regions)
    assert all(np.abs(regions[a][0] - regions[b][0]).max() > 0.5 for a, b in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize("channels", [1, 2, 8])
def test_pca_colours_of_few_channels_or_of_constant_features_are_colours(channels):
    for embedding in (
        torch.ones(1, channels, 4, 4),
        torch.from_numpy(random.normal(size=(1, channels, 4, 4))),
    ):
        colours = figures.pca_colours(embedding)
        assert colours.shape == (1, 4, 4, 3) and np.isfinite(colours).all()


def test_embedding_rows_have_an_axis_for_each_image_and_network():
    embeddings = {name: torch.from_numpy(random.normal(size=(3, 4, 4, 6))) for name in ("random", "ours")}
    figure = drawn(figures.embedding_rows(IMAGES, embeddings), axes=9)
    assert [figure.axes[row * 3].get_ylabel() for row in range(3)] == ["image", "random", "ours"]


def test_segmentations_have_an_axis_for_each_image_and_map_and_hide_void():
    masks = [LABELS, LABELS, np.where(LABELS == 2, 255, LABELS)]
    figure = drawn(figures.segmentations(IMAGES, {"truth": masks}, classes=3), axes=6)
    assert figure.axes[5].images[0].get_array().mask.sum() == 16 * 8


def test_bars_are_sorted_best_at_the_top():
    figure = drawn(
        figures.bars({"low": 1.0, "high": 9.0, "mid": 5.0}, {"low": 0.1, "high": 0.2, "mid": 0.0}, "mIoU"),
        axes=1,
    )
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["low", "mid", "high"]


def test_a_heat_map_writes_its_numbers_and_leaves_gaps_empty():
    figure = drawn(
        figures.heat_map(
            np.array([[1.0, np.nan], [3.0, 4.0]]), ["0", "5"], [0.4, 0.8], "cns", "sigma_p", "mIoU"
        ),
        axes=2,
    )
    assert [text.get_text() for text in figure.axes[0].texts] == ["1.0", "3.0", "4.0"]


def test_score_bars_have_a_dot_a_seed():
    scores = {"J": {"random": [0.1, 0.2, 0.3], "ours": [0.5]}, "F": {"ours": [0.4, 0.6]}}
    figure = drawn(figures_scores.score_bars(scores, "percent"), axes=1)
    axis = figure.axes[0]
    assert sorted(len(line.get_xdata()) for line in axis.lines) == [1, 2, 3]
    assert sorted(round(bar.get_width()) for bar in axis.patches) == [20, 50, 50]
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown == ["J", "F"]
    assert [label.get_text() for label in axis.get_yticklabels()] == [
        "random",
        "ours",
    ] and axis.yaxis_inverted()


PROBE = {
    run: {"head": {"miou_mean": mean, "miou_std": 0.01}}
    for run, mean in (("ours-single", 0.2), ("ours-many", 0.25), ("moco-many", 0.15))
}


def test_scores_by_objects_are_percent_of_the_runs_that_have_the_head():
    scores = figures_objects.object_scores(
        {**PROBE, "moco-single": {"other": {}}, "random": PROBE["ours-many"]}, "head"
    )
    assert scores == {"ours": {"single": (20.0, 1.0), "many": (25.0, 1.0)}, "moco": {"many": (15.0, 1.0)}}
    assert figures_objects.object_scores({"random": PROBE["ours-many"]}, "head") == {}


def test_bars_by_objects_stand_in_pairs_with_deviations():
    axis = drawn(
        figures_objects.object_bars(figures_objects.object_scores(PROBE, "head"), "mIoU"), axes=1
    ).axes[0]
    single, many = (
        [(round(bar.get_x() + bar.get_width() / 2, 2), bar.get_height()) for bar in bars.patches]
        for bars in axis.containers[1::2]
    )
    assert single == [(-0.19, 20.0)] and many == [(0.19, 25.0), (1.19, 15.0)]
    assert [text.get_text() for text in axis.get_xticklabels()] == ["ours", "moco"]
    assert all(bars.errorbar is not None for bars in axis.containers[1::2])
    assert [text.get_text() for text in axis.texts] == ["20.0", "25.0", "15.0"]
    assert (
        drawn(figures_objects.object_bars({"ours": {"many": (20.0, 1.0)}}, "mIoU"), axes=1).get_label()
        == figures.CHART
    )


def test_examples_have_a_row_a_split():
    figure = drawn(figures_objects.object_examples({"single": IMAGES, "many": IMAGES[::-1]}), axes=6)
    assert [figure.axes[k].get_ylabel() for k in (0, 3)] == ["one object", "5 to 7 objects"]
    np.testing.assert_array_equal(figure.axes[3].images[0].get_array(), IMAGES[2])


@pytest.fixture
def video(tmp_path):
    frames, masks = [], []
    for t, image in enumerate(IMAGES):
        frames.append(tmp_path / f"{t}.png")
        masks.append(tmp_path / f"m{t}.png")
        Image.fromarray(image).save(frames[-1])
        Image.fromarray(LABELS).save(masks[-1])
    return Video("toy", tuple(frames), tuple(masks))


def test_a_tracking_overlay_has_a_row_a_tracker_and_a_column_a_frame(video):
    tracks = {"identity": [LABELS] * 3, "ours": [LABELS] * 3}
    figure = drawn(figures_tracking.tracking_overlay(video, tracks, [0, 2]), axes=4)
    assert figure.axes[0].get_title() == "frame 0" and figure.axes[1].get_title() == "frame 2"
    drawn(figures_tracking.tracking_overlay(video, {"one": [LABELS] * 3}, [1]), axes=1)


def test_an_overlay_tints_objects_and_leaves_background_and_void():
    mask = np.zeros((16, 24), np.uint8)
    mask[4:8, 4:8], mask[12:, 12:] = 1, 255
    picture = figures_tracking.overlay(IMAGES[0], mask)
    changed = (picture != IMAGES[0]).any(-1)
    assert changed[4:8, 4:8].all() and not changed[9:].any()
    np.testing.assert_array_equal(figures_tracking.overlay(IMAGES[0], mask * 0), IMAGES[0])


@pytest.mark.parametrize("frames", [1, 3])
def test_a_picture_of_neighbours_has_an_axis_a_frame(frames):
    neighbours = [(0, 1, 1), (0, 2, 2)]
    figure = drawn(
        figures_tracking.neighbour_picture(IMAGES[:frames], (1, 2), neighbours, (4, 6)), axes=frames
    )
    assert figure.axes[-1].get_title() == "the cell"


def test_scores_over_time_have_a_line_a_tracker():
    axis = drawn(figures_tracking.scores_over_time({"a": [0.9, 0.5], "b": [0.1, 0.0]}), axes=1).axes[0]
    assert [list(line.get_xdata()) for line in axis.lines] == [[1, 2], [1, 2]]


def test_a_match_picture_compares_regions_and_boundaries():
    drawn(figures_tracking.match_picture(LABELS == 1, LABELS == 2), axes=2)


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


def test_queries_are_objects_of_different_images(retrieved):
    segments, samples = retrieved
    rows = figures_retrieval.query_rows(segments, samples, 2)
    assert len(set(segments.image[rows])) == 2 and 0 not in segments.segment[rows]
    assert len(figures_retrieval.query_rows(segments, samples, 10)) == 3


def test_a_retrieval_grid_shows_the_query_and_its_neighbours(retrieved):
    segments, samples = retrieved
    tiles = figures_retrieval.retrieval_tiles(segments, samples, segments, samples, [1, 5], neighbours=2)
    titles = [[tile.title for tile in row] for row in tiles]
    assert titles == [
        ["query: left", "left  1.00", "left  1.00"],
        ["query: right", "right  1.00", "right  1.00"],
    ]
    assert all(tile.right and tile.mask.sum() == 16 * 8 for row in tiles for tile in row)
    drawn(figures_retrieval.retrieval_grid(tiles), axes=6)


def test_a_retrieval_grid_of_uneven_rows_can_be_drawn(retrieved):
    tile = figures_retrieval.Tile(IMAGES[0], LABELS == 1, "x", right=False)
    figure = drawn(figures_retrieval.retrieval_grid([[tile, tile], [tile]]), axes=4)
    assert figure.axes[0].title.get_color() == "tab:red"


def test_a_segment_map_says_how_many_segments():
    figure = drawn(figures_retrieval.segment_map(IMAGES[0], LABELS[::4, ::4]), axes=2)
    assert figure.axes[1].get_title() == "3 segments"


def picture():
    figure, axes = figures.grid(1, 1)
    axes[0, 0].imshow(np.eye(2))
    return figure


def test_pictures_of_scenes_are_results_and_those_of_other_images_stay_with_the_artefacts(home):
    (home / "profiles/small.yaml").write_text("seeds: [0]\n")
    figure = picture()
    assert figures.save(figure, "small", "map") is figure
    assert (home / "artifacts/small/figures/map.png").exists() and not (home / "results").exists()
    assert not plt.fignum_exists(figure.number)
    write_profile(home)
    figures.save(picture(), "small", "map")
    assert (home / "results/small/figures/map.png").read_bytes() == (
        home / "artifacts/small/figures/map.png"
    ).read_bytes()


def test_charts_are_results_whatever_the_data(home):
    (home / "profiles/small.yaml").write_text("seeds: [0]\n")
    figures.save(figures.bars({"a": 1.0}, {"a": 0.1}, "score"), "small", "bars")
    assert (home / "results/small/figures/bars.png").exists() and not (home / "artifacts").exists()


def test_convergence_curves_have_a_line_a_run_a_dot_a_seed_and_name_their_probe():
    curve = {
        "head": "linear-backbone",
        "iterations": 400,
        "epochs": [1, 2],
        "seeds": {"0": [0.1, 0.2], "1": [0.2, 0.4]},
    }
    curve |= {"miou_mean": [0.15, 0.3], "miou_std": [0.05, 0.1]}
    figure = drawn(
        figures_scores.convergence_curves({"ours": curve, "moco-long": curve | {"epochs": [2.5, 5]}}), axes=1
    )
    axes = figure.axes[0]
    assert [line.get_label() for line in axes.lines if not line.get_label().startswith("_")] == [
        "ours",
        "moco-long",
    ]
    assert (
        len(axes.lines) == 2 + 4
        and axes.lines[3].get_xdata().tolist() == [2.5, 5]
        and axes.lines[3].get_ydata().tolist() == [15, 30]
    )
    assert "linear-backbone, 400 iterations" in axes.get_ylabel()
    with pytest.raises(ValueError):
        figures_scores.convergence_curves({"a": curve, "b": curve | {"iterations": 500}})
