"""Notebook 07's cells: changed settings that really arrive, scored on the tune split."""

import json

import pytest
import yaml
from conftest import SMALL_PARAMS, write_profile

from hgrl.core import paths
from hgrl.core.checkpoint import load_checkpoint
from hgrl.core.errors import InputError
from hgrl.core.settings import load_settings
from hgrl.evaluation import trials as ablation


@pytest.fixture
def opened(monkeypatch):
    """The splits that cells open for their probes."""
    splits, real = [], ablation.open_samples
    monkeypatch.setattr(
        ablation, "open_samples", lambda source, root: (splits.append(source.split), real(source, root))[1]
    )
    return splits


def test_a_cell_has_the_ablations_length_and_the_overrides(pipeline):
    write_profile(
        pipeline,
        {
            "ablation.epochs": 2,
            "ablation.iterations": 7,
            "ablation.head": "linear-embedding",
            "ablation.seeds": [5],
        },
    )
    cell = ablation.cell_settings("small", {"sampling.cns": "0,3", "objective.temperature": 0.1})
    profile = load_settings("small")
    assert (
        cell.seeds == (5,)
        and cell.pretrain.epochs == 2
        and cell.probe.iterations == 7
        and cell.probe.heads == ("linear-embedding",)
    )
    assert cell.sampling.cns == (0, 3) and cell.objective.temperature == 0.1
    assert cell.data.probe_val == profile.ablation.val and cell.data.probe_train == profile.ablation.train
    assert (
        cell.network == profile.network
        and cell.augment == profile.augment
        and cell.pretrain.lr == profile.pretrain.lr
    )


def test_an_override_may_change_the_length_itself(pipeline):
    assert ablation.cell_settings("small", {"pretrain.epochs": 9}).pretrain.epochs == 9


@pytest.mark.parametrize(
    "overrides",
    [{"sampling.cn": 5}, {"objective.form": "logs"}, {"sampling.sigma_p": -1}, {"sampling.cns": "five"}],
)
def test_a_mistyped_override_is_one_line_with_its_name(pipeline, overrides):
    with pytest.raises(InputError) as caught:
        ablation.train_and_score("small", "ablations", {"odd": ablation.Cell(overrides)})
    assert next(iter(overrides)) in str(caught.value) and "\n" not in str(caught.value)


def test_a_cell_is_scored_on_the_tune_split_alone(pipeline, opened):
    ablation.sweep_cell("small", "2", 0.8)
    assert set(opened) == {"train", "tune"}


@pytest.mark.parametrize("profile", ["smoke", "quick", "mini", "photos", "paper"])
def test_the_reported_images_and_the_tune_images_are_apart_in_every_profile(profile):
    settings = load_settings(profile)
    tune, reported = settings.ablation.val, settings.data.probe_val
    assert (tune.folder, tune.split) != (reported.folder, reported.split)
    train = settings.ablation.train
    assert train.split != tune.split or train.part[1] <= tune.part[0]


def test_a_cell_keeps_mean_deviation_and_seeds_and_trains_what_it_names(pipeline):
    result = ablation.sweep_cell("small", "0,3", 0.4)
    kept = json.loads((paths.results("small") / "sweep/cns0,3-sigma0.4.json").read_text())
    assert kept["overrides"] == {"sampling.cns": "0,3", "sampling.sigma_p": 0.4}
    assert kept["seeds"].keys() == {"0", "1"} and kept["head"] == "linear-backbone"
    assert result["miou_mean"] == pytest.approx(sum(result["seeds"].values()) / 2)
    assert result["miou_std"] == pytest.approx(abs(result["seeds"][0] - result["seeds"][1]) / 2**0.5)
    trained = load_checkpoint(paths.artifacts("small") / "sweep/cns0,3-sigma0.4/seed1.pt").identity[
        "settings"
    ]
    assert (
        list(trained["sampling"]["cns"]) == [0, 3]
        and trained["sampling"]["sigma_p"] == 0.4
        and trained["pretrain"]["epochs"] == 1
    )


def test_the_whole_listed_grid_is_made_and_a_cell_of_ones_own_joins_it(pipeline):
    paths.PARAMS.write_text(
        yaml.safe_dump({**SMALL_PARAMS, "sweep": {"cns": [0, "0,2"], "sigma_p": [0.4, 0.8]}})
    )
    results = ablation.sweep("small")
    assert results.keys() == {"cns0-sigma0.4", "cns0-sigma0.8", "cns0,2-sigma0.4", "cns0,2-sigma0.8"}
    ablation.sweep_cell("small", 3, 0.8)
    assert ablation.gathered("small", "sweep").keys() == {*results, "cns3-sigma0.8"}
    assert results["cns0-sigma0.4"]["overrides"] == {"sampling.cns": 0, "sampling.sigma_p": 0.4}
    assert ablation.sweep_cell("small", 0, 0.4)["seeds"] == results["cns0-sigma0.4"]["seeds"]


def test_all_listed_changes_and_the_base_are_made_and_gathered(pipeline):
    results = ablation.ablate("small")
    assert results.keys() == {"base", "ratio"}
    assert results["base"]["overrides"] == {} and results["ratio"]["overrides"] == {"objective.form": "ratio"}
    gathered = ablation.gathered("small", "ablations")
    assert gathered.keys() == {"base", "ratio"}  # and none of the .origin files
    assert all(gathered[name]["miou_mean"] == results[name]["miou_mean"] for name in results)
    assert ablation.gathered("small", "sweep") == {}
    before = (paths.results("small") / "ablations/ratio.json").read_bytes()
    ablation.ablate("small")
    assert (paths.results("small") / "ablations/ratio.json").read_bytes() == before
