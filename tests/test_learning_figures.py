"""Pictures of a network that learns, of losses, and of table 1: drawn from tiny arrays."""

import io

import numpy as np
import pytest
import torch
from conftest import write_profile
from matplotlib.figure import Figure
from PIL import Image

from hgrl.core.errors import InputError
from hgrl.core.experiment import load_experiment
from hgrl.core.files import write_json, write_png, write_text
from hgrl.reporting.figures import losses, probe, scores, training

random = np.random.default_rng(0)
IMAGES = random.integers(0, 256, (3, 16, 24, 3)).astype(np.uint8)


def drawn(figure: Figure, axes: int) -> Figure:
    """Asserts that a figure has so many axes and can be drawn."""
    assert len(figure.axes) == axes
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    return figure


def test_loss_curves_have_a_line_and_its_centred_mean_for_each_run():
    falling = np.linspace(3, 1, 50)
    curves = {"a": (np.arange(50), falling), "b": (np.array([7]), np.array([2.0]))}
    figure = drawn(scores.loss_curves(curves), axes=1)
    lines, (legend,) = figure.axes[0].lines, figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"] and len(lines) == 4
    np.testing.assert_allclose(lines[1].get_ydata()[4:-4], falling[4:-4])  # centred: it does not lag behind


def test_no_mean_of_losses_reaches_across_a_switch():
    curve = np.arange(1, 41), np.repeat([1.0, 2.0], 20)
    axis = drawn(scores.loss_curves({"a": curve}, {20: "cns 5 to 20"}), axes=1).axes[0]
    means = [line for line in axis.lines if line.get_alpha() is None and len(line.get_xdata()) == 20]
    assert [set(line.get_ydata()) for line in means] == [{1.0}, {2.0}]
    assert [text.get_text() for text in axis.texts] == ["cns 5 to 20"]


@pytest.mark.parametrize("done", [[], [2.0, 1.5, 1.0]])
def test_a_picture_of_training_can_be_drawn_at_any_step(done):
    embedding = torch.from_numpy(random.normal(size=(3, 8, 4, 6)))
    picture = training.training_picture(done, 5, {2.5: "cns 5 to 20"}, IMAGES, embedding)
    assert Image.open(io.BytesIO(picture.data)).size[0] > 500


@pytest.fixture
def small(home):
    """A profile of scenes, beside `mini`; it has trained nothing."""
    runs = "runs:\n  ours: {method: hierarchical}\n  far: {method: moco}\n  densecl: {method: densecl}\n"
    write_text(home / "params.yaml", runs)
    for name in ("small", "mini"):
        write_profile(home, name=name)
    return load_experiment("small")


def test_losses_are_the_profiles_own_or_minis(home, small, capsys):
    rows = "seed,step,loss\n0,5,2.5\n0,10,2.0\n1,5,3.0\n1,10,2.0\n"
    write_text(home / "results/mini/pretraining/ours.csv", rows)
    curves = losses.losses_to_show(small, small.run("ours"))
    assert [*curves] == ["seed 0", "seed 1"] and "results/mini" in capsys.readouterr().out
    np.testing.assert_array_equal(curves["seed 1"], [[5, 10], [3, 2]])
    write_text(home / "results/small/pretraining/ours.csv", "seed,step,loss\n")
    with pytest.raises(InputError, match="no losses of run 'ours'"):
        losses.losses_to_show(small, small.run("ours"))


def test_a_schedule_of_negatives_has_its_switches_and_other_runs_have_none(small):
    assert losses.switches_of(small.run("ours"), 100) == {}
    settings = small.settings_with({"sampling.cns": [0, 5, 20], "sampling.cns_reading": "schedule"})
    run = small.run("ours")
    object.__setattr__(run, "settings", settings)
    assert losses.switches_of(run, 90) == {30: "cns 0 to 5", 60: "cns 5 to 20"}


def test_the_papers_figures_go_by_run_and_stand_ins_have_their_rows():
    paper = probe.paper_miou()
    assert (paper["moco"], paper["ours-cns5-20"], paper["moco-small"]) == (42.07, 46.51, 32.04)
    assert "ours-best" not in paper


def test_pairs_of_rows_are_compared_where_both_lists_have_them():
    ours = {"a": 3, "b": 2, "c": 1, "mine": 9}
    assert probe.agreeing_pairs(ours, {"a": 30, "b": 10, "c": 20, "d": 5}) == (2, 3)
    assert probe.agreeing_pairs(ours, {"a": 1}) == (0, 0)


def test_table_1_is_drawn_by_group_the_best_first_and_ranked_as_in_the_paper():
    experiment = load_experiment("mini")
    values = {"moco": [0.1, 0.2], "ours-cns5": [0.4], "ours-best": [0.5], "random": [0.05]}
    values |= {"random-e2e": [0.6], "position": [0.1]}
    groups = probe.by_group(values, experiment)
    assert {title: [*runs] for title, runs in groups.items()} == {
        probe.FROZEN: ["ours-best", "ours-cns5", "moco"],
        probe.END_TO_END: ["random-e2e"],
        probe.NOTHING: ["position", "random"],
    }
    figure = drawn(probe.table_chart(groups, {"moco": 50.0, "ours-cns5": 40.0}), axes=2)
    left, right = ([text.get_text() for text in axes.texts] for axes in figure.axes)
    assert left == [probe.FROZEN, "1", "2", probe.END_TO_END, probe.NOTHING] and right == ["1", "2"]
    named = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert named[:3] == ["Ours, the former scenes' best", "Ours, cns 5", "MoCo"]


def test_scores_have_the_heads_of_the_extras_too(home, small):
    def seeds(**heads):
        return {"seeds": {"0": {"scenes": {head: {"miou": miou} for head, miou in heads.items()}}}}

    labelled = next(iter(small.settings.data.labelled))
    assert labelled == "scenes"
    write_json(home / "results/small/probe/ours.json", seeds(aspp=0.5))
    write_json(home / "results/small/extras/probe/ours.json", seeds(aspp=0.4, linear=0.3))
    write_json(home / "results/small/extras/probe/densecl.json", seeds(aspp=0.2))
    found, source = probe.scores_to_show(small)
    assert source is small and found == {
        "ours": {"0": {"aspp": {"miou": 0.5}, "linear": {"miou": 0.3}}},
        "densecl": {"0": {"aspp": {"miou": 0.2}}},
    }


def test_predictions_are_read_where_there_are_any_and_runs_without_a_network_left_out(small):
    for k in (0, 2):
        write_png(small.files.prediction("ours", k, "scenes"), np.full((4, 4), k, np.uint8))
    found = probe.predictions_to_show(small, ["ours", "far"], [0, 2], "scenes")
    assert [*found] == ["ours"] and [int(one[0, 0]) for one in found["ours"]] == [0, 2]


def test_a_thing_is_named_right_where_most_of_its_pixels_are():
    truth = np.uint8([[0, 1, 1, 1], [0, 2, 2, 255]])
    found = np.uint8([[1, 1, 1, 0], [1, 0, 2, 2]])
    assert probe.things_named([truth, truth], [found, truth], ("background", "a", "b")) == (3, 4)
    assert probe.things_named([truth], [found], ("sky", "a", "b")) == (1, 3)


def test_a_run_without_predictions_has_them_from_a_head_that_learns_for_the_picture(experiment):
    (maps,) = probe.predictions_to_show(experiment(), ["ours"], [0, 1], "scenes").values()
    assert [one.dtype for one in maps] == [np.uint8] * 2 and maps[0].ndim == 2
