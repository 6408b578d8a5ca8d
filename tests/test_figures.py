"""Every picture of the notebooks, drawn from tiny arrays."""

import io

import numpy as np
import pytest
import torch
import yaml
from conftest import SMALL_PARAMS, write_profile
from matplotlib.figure import Figure
from PIL import Image
from skimage.data import chelsea

from hgrl.core import notebook
from hgrl.core.experiment import load_experiment
from hgrl.core.settings import SamplingSettings
from hgrl.data.samples import Video
from hgrl.metrics.bsds import f_measure
from hgrl.reporting.figures import bsds, compressed, output, panels, sampling, scores, tracking
from hgrl.sampling.pixels import sample_pixels

random = np.random.default_rng(0)
IMAGES = random.integers(0, 256, (3, 16, 24, 3)).astype(np.uint8)
LABELS = np.repeat(np.arange(3, dtype=np.uint8), 8)[None].repeat(16, 0)  # three stripes of 16 x 8


def drawn(figure, axes):
    """Asserts that a figure has so many axes and can be drawn."""
    assert isinstance(figure, Figure)
    assert len(figure.axes) == axes
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    return figure


def test_probability_maps_have_an_axis_each_and_one_colour_scale():
    maps = {"positive": np.array([0.1, 0.2, 0.7]), "negative": np.array([0.5, 0.5, 0.0])}
    figure = drawn(sampling.probability_maps(IMAGES[0], LABELS, 1, maps, pixel=(9, 3)), axes=1 + 2 + 1)
    shown = [axis.images[0] for axis in figure.axes[1:3]]
    np.testing.assert_array_equal(shown[0].get_array()[0, [0, 8, 16]], [0.1, 0.2, 0.7])
    assert {image.get_clim() for image in shown} == {sampling.SHARES}
    assert not np.ma.is_masked(shown[1].norm(shown[1].get_array()))  # zero has a colour too


def test_outlines_are_yellow_and_the_rest_is_the_image():
    picture = panels.outlined(IMAGES[0], LABELS)
    assert (picture[:, 8] == [255, 221, 51]).all()
    np.testing.assert_array_equal(picture[:, 2:6], IMAGES[0][:, 2:6])


def test_sampled_pixels_lie_where_the_sample_says():
    labels = np.zeros((2, 2, 4, 4), np.uint8)
    labels[..., 2:] = 1
    # far apart: positives come from the anchor's own region
    distances = torch.tensor([[0.0, 9.0], [9.0, 0.0]]).expand(2, 2, 2)
    settings = SamplingSettings(anchors=1, positives=3, negatives=2, cns=0, height_unit="raw")
    generator = torch.Generator().manual_seed(0)
    sample = sample_pixels(torch.from_numpy(labels), distances, settings, 3, generator)
    images = random.integers(0, 256, (2, 2, 16, 16, 3)).astype(np.uint8)
    figure = sampling.sampled_pixels(images, labels, sample, image=1, anchor=0)
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    kinds = list(sampling.STYLES)
    dots = [
        dict(zip(kinds, [spots.get_offsets() for spots in axis.collections], strict=True))
        for axis in figure.axes
    ]
    assert [axis.get_title() for axis in figure.axes[:2]] == ["first view", "augmented view"]
    assert {axis.get_title() for axis in figure.axes[2:]} == {"image 0"}
    assert [len(groups["anchor"]) for groups in dots[:2]] == [1, 0]
    side = dots[0]["anchor"][0][0] >= 32
    positives = np.concatenate([groups["positive"] for groups in dots])
    negatives = np.concatenate([groups["negative"] for groups in dots])
    assert len(positives) and ((positives[:, 0] >= 32) == side).all()
    assert len(negatives) and ((negatives[:, 0] >= 32) != side).all()
    elsewhere = [len(groups["negative from another image"]) for groups in dots]
    assert elsewhere[:2] == [0, 0] and sum(elsewhere) == 3
    assert [text.get_text() for text in figure.legends[0].get_texts()] == kinds[::-1]


@pytest.mark.parametrize("shape", [(2, 8, 5, 6), (1, 3, 4, 4), (1, 32, 2, 1)])
def test_pca_colours_are_colours_whatever_the_scale(shape):
    embedding = torch.from_numpy(random.normal(size=shape)).float()
    colours = panels.pca_colours(embedding)
    assert colours.shape == (shape[0], *shape[2:], 3)
    assert colours.min() >= 0 and colours.max() <= 1
    np.testing.assert_allclose(panels.pca_colours(1000 * embedding), colours, atol=1e-3)


def test_pca_colours_tell_regions_apart_and_agree_between_images():
    embedding = torch.eye(4)[torch.from_numpy(LABELS.astype(int))].permute(2, 0, 1)  # a direction per region
    colours = panels.pca_colours(torch.stack([embedding, embedding.flip(2)]))
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
        colours = panels.pca_colours(embedding)
        assert colours.shape == (1, 4, 4, 3) and np.isfinite(colours).all()


def test_embedding_rows_have_an_axis_for_each_image_and_network():
    networks = {name: torch.from_numpy(random.normal(size=(3, 4, 4, 6))) for name in ("random", "ours")}
    figure = drawn(panels.embedding_rows(IMAGES, networks), axes=9)
    assert [figure.axes[row * 3].get_ylabel() for row in range(3)] == ["image", "random", "ours"]


def test_segmentations_have_an_axis_for_each_image_and_map_and_hide_void():
    masks = [LABELS, LABELS, np.where(LABELS == 2, 255, LABELS)]
    figure = drawn(
        panels.segmentations(IMAGES, {"truth": masks}, ("background", "cat", "dog", "cow")), axes=6
    )
    assert figure.axes[5].images[0].get_array().mask.sum() == 16 * 8
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        ("background", "cat", "dog", "cow")[id_] for id_ in np.unique(LABELS)
    ]
    shown = figure.axes[4].images[0]
    for patch, id_ in zip(legend.get_patches(), np.unique(LABELS), strict=True):
        assert shown.cmap(shown.norm(id_)) == patch.get_facecolor()


@pytest.mark.parametrize("count", [2, 7, 21, 60])
def test_every_class_has_a_colour_of_its_own(count):
    colours = panels.class_colours(["background", *(f"class {k}" for k in range(1, count))])
    assert len(colours) == len(set(colours)) == count


def test_scores_of_one_set():
    scored = {"ours": {0: {"msrc": 1, "voc": 2}, 1: {"msrc": 3, "voc": 4}}, "moco": {0: {"msrc": 5}}}
    assert scores.of_set(scored, "voc") == {"ours": {0: 2, 1: 4}}


def test_a_heat_map_writes_its_numbers_with_deviations_and_says_what_is_not_made():
    values, deviations = np.array([[1.0, np.nan], [3.0, 4.0]]), np.array([[0.5, np.nan], [0.25, np.nan]])
    axes = ("cns", ["0", "5"]), ("sigma_p", [0.4, 0.8])
    figure = drawn(scores.heat_map(values, deviations, *axes, "mIoU"), axes=2)
    assert [text.get_text() for text in figure.axes[0].texts] == [
        "1.0\n± 0.5",
        "not made",
        "3.0\n± 0.2",
        "4.0",
    ]


@pytest.mark.parametrize(("values", "limits"), [([1.0, 1.01], (-1.495, 3.505)), ([1.0, 11.0], (1, 11))])
def test_colours_of_a_heat_map_span_points_and_no_less(values, limits):
    axes = ("cns", ["0"]), ("sigma_p", [0.4, 0.8])
    figure = drawn(scores.heat_map(np.array([values]), np.full((1, 2), np.nan), *axes, "mIoU"), axes=2)
    assert figure.axes[0].images[0].get_clim() == pytest.approx(limits)


def test_changes_are_drawn_as_points_above_and_below_the_base_by_seed():
    base = {"seeds": {"0": 0.1, "1": 0.2}}
    rows = {
        "base": base,
        "ratio": {"seeds": {"0": 0.15, "1": 0.21}},
        "raw-units": {"seeds": {"0": 0.05, "1": 0.17}},
    }
    axis = drawn(scores.change_bars(rows), axes=1).axes[0]
    assert bars_of(axis) == [(0, 3), (1, -4)]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["ratio", "raw units"]
    assert [line.get_xdata().round(6).tolist() for line in axis.lines if line.get_marker() == "."] == [
        [5, 1],
        [-5, -3],
    ]


def bars_of(axis):
    """(place, percent) of every bar."""
    return [(round(bar.get_y() + bar.get_height() / 2, 2), round(bar.get_width(), 6)) for bar in axis.patches]


def test_score_bars_have_a_dot_per_seed_and_a_bar_per_group_that_names_the_run():
    groups = {"J": {"random": [0.1, 0.2, 0.3], "ours": [0.5]}, "F": {"ours": [0.4, 0.6]}}
    figure = drawn(scores.score_bars(groups, "percent"), axes=1)
    axis = figure.axes[0]
    assert sorted(len(line.get_xdata()) for line in axis.lines) == [1, 2, 3]
    assert bars_of(axis) == [(0, 20), (0.8, 50), (1.2, 50)]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["J", "F"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["random", "ours"]
    assert axis.yaxis_inverted()


def test_bars_are_sorted_best_first_on_demand():
    groups = {"": {"low": [0.1], "high": [0.8, 1.0], "mid": [0.5]}}
    axis = drawn(scores.score_bars(groups, "mIoU", best_first=True), axes=1).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["high", "mid", "low"]
    assert not axis.figure.legends


def test_the_probe_chart_names_the_head_of_runs_that_have_another():
    def seeds(*heads):
        return {seed: {head: {"miou": 0.1 + seed / 10} for head in heads} for seed in (0, 1)}

    scored = {"random": seeds("aspp", "linear"), "e2e": seeds("fcn"), "moco": seeds("linear", "aspp")}
    groups = scores.probe_scores(scored, "aspp")
    assert groups == {"aspp": {"random": [0.1, 0.2], "moco": [0.1, 0.2]}, "fcn": {"e2e": [0.1, 0.2]}}
    figure = scores.score_bars(groups, "mIoU")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["aspp", "fcn"]
    alone = scores.probe_scores({"e2e": seeds("fcn")}, "aspp")
    assert [text.get_text() for text in scores.score_bars(alone, "mIoU").legends[0].get_texts()] == ["fcn"]


def test_scores_by_objects_are_of_the_runs_that_have_the_head():
    def run(*values, head="head"):
        return {str(k): {head: {"miou": value}} for k, value in enumerate(values)}

    results = {"ours-single": run(0.2, 0.3), "ours-many": run(0.25), "moco-many": run(0.15)}
    results |= {"moco-single": run(0.5, head="other"), "random": run(0.9)}
    single, many = scores.SPLITS.values()
    expected = {single: {"ours": [0.2, 0.3]}, many: {"ours": [0.25], "moco": [0.15]}}
    assert scores.object_scores(results, "head") == expected
    axis = drawn(scores.score_bars(expected, "mIoU"), axes=1).axes[0]
    assert bars_of(axis) == [(-0.2, 25), (0.2, 25), (1, 15)]
    assert scores.object_scores({"random": run(0.9)}, "head") == {}


def test_rows_of_pictures_have_their_names_and_shape():
    figure = drawn(panels.picture_rows({"one object": IMAGES, "5 to 7 objects": IMAGES[::-1]}), axes=6)
    assert [figure.axes[k].get_ylabel() for k in (0, 3)] == ["one object", "5 to 7 objects"]
    np.testing.assert_array_equal(figure.axes[3].images[0].get_array(), IMAGES[2])
    width, height = figure.get_size_inches()
    assert height / width == pytest.approx(2 * 16 / (3 * 24))


@pytest.fixture
def video(tmp_path):
    frames, masks = [], []
    for t, image in enumerate(IMAGES):
        frames.append(tmp_path / f"{t}.png")
        masks.append(tmp_path / f"m{t}.png")
        Image.fromarray(image).save(frames[-1])
        Image.fromarray(LABELS).save(masks[-1])
    return Video("toy", tuple(frames), tuple(masks))


def test_a_tracking_overlay_has_a_row_per_tracker_and_a_column_per_frame(video):
    tracks = {"identity": [LABELS] * 3, "ours": [LABELS] * 3}
    figure = drawn(tracking.tracking_overlay(video, tracks, [0, 2]), axes=4)
    assert figure.axes[0].get_title() == "frame 0" and figure.axes[1].get_title() == "frame 2"
    drawn(tracking.tracking_overlay(video, {"one": [LABELS] * 3}, [1]), axes=1)


def test_an_overlay_tints_objects_and_leaves_background_and_void():
    mask = np.zeros((16, 24), np.uint8)
    mask[4:8, 4:8], mask[12:, 12:] = 1, 255
    picture = tracking.overlay(IMAGES[0], mask)
    changed = (picture != IMAGES[0]).any(-1)
    assert changed[4:8, 4:8].all() and not changed[9:].any()
    np.testing.assert_array_equal(tracking.overlay(IMAGES[0], mask * 0), IMAGES[0])


@pytest.mark.parametrize("frames", [1, 3])
def test_a_picture_of_neighbours_has_an_axis_per_frame(frames):
    neighbours = [(0, 1, 1), (0, 2, 2)]
    figure = drawn(tracking.neighbour_picture(IMAGES[:frames], (1, 2), neighbours, (4, 6)), axes=frames)
    assert figure.axes[-1].get_title() == "the cell"


def test_tracks_to_show_are_of_runs_that_need_no_network_or_have_one_here(home, video, capsys):
    write_profile(home)
    (home / "params.yaml").write_text(yaml.safe_dump(SMALL_PARAMS))
    experiment = load_experiment("small")
    tracks = tracking.tracks_to_show(experiment, ["identity", "ours", "random"], video, seed=0)
    assert tracks.keys() == {"identity", "random"}
    assert capsys.readouterr().out.splitlines() == ["ours: not trained here, so left out of the pictures"]
    np.testing.assert_array_equal(tracks["identity"], [LABELS] * 3)
    assert [mask.shape for mask in tracks["random"]] == [LABELS.shape] * 3


def test_scores_over_time_have_a_line_per_tracker():
    axis = drawn(tracking.scores_over_time({"a": [0.9, 0.5], "b": [0.1, 0.0]}), axes=1).axes[0]
    assert [list(line.get_xdata()) for line in axis.lines] == [[1, 2], [1, 2]]


def test_a_match_picture_compares_regions_and_boundaries():
    figure = drawn(tracking.match_picture(LABELS == 1, LABELS >= 1), axes=2)
    assert np.unique(figure.axes[0].images[0].get_array()).tolist() == [0, 2, 3]  # none, too much, both


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


def test_convergence_curves_have_a_line_per_run_a_dot_per_seed_and_name_their_probe():
    curve = {
        "head": "linear-backbone",
        "iterations": 400,
        "epochs": [1, 2],
        "seeds": {"0": [0.1, 0.2], "1": [0.2, 0.4]},
    }
    curve |= {"miou_mean": [0.15, 0.3], "miou_std": [0.05, 0.1]}
    figure = drawn(
        scores.convergence_curves({"ours": curve, "moco-long": curve | {"epochs": [2.5, 5]}}), axes=1
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
        scores.convergence_curves({"a": curve, "b": curve | {"iterations": 500}})


def test_the_curve_has_iso_f_lines_and_the_human_point():
    curves = {
        "weak": (np.array([0.9, 0.5, 0.001]), np.array([0.1, 0.5, 1.0])),
        "strong": (np.array([0.9, 0.8]), np.array([0.6, 0.8])),
    }
    figure = bsds.precision_recall_figure(curves)
    (axes,) = figure.axes
    lines = [line.get_xydata().T for line in axes.lines if line.get_color() == bsds.GREEN]
    assert [np.ptp(f_measure(*line)) < 1e-9 for line in lines] == [True] * 9
    assert [f_measure(*line)[0] for line in lines] == pytest.approx(np.arange(0.1, 0.95, 0.1))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "[F=0.80] human",
        "[F=0.80] strong",
        "[F=0.50] weak",
    ]
    drawn = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    # recalls under .01 are not drawn, as in the authors' plot
    assert drawn["[F=0.50] weak"] == [[0.9, 0.1], [0.5, 0.5]]
    assert drawn["[F=0.80] human"] == [[0.7235, 0.9014]]
