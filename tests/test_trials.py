"""Notebook 07's cells: changed settings that really arrive, scored on the tune split."""

import json
import shutil

import pytest
import yaml
from conftest import SMALL, SMALL_PARAMS, write_profile

from hgrl.core import paths
from hgrl.core.checkpoint import load_checkpoint
from hgrl.core.errors import InputError
from hgrl.core.experiment import load_experiment
from hgrl.core.results import read_results
from hgrl.evaluation import probe, trials
from hgrl.evaluation.trials import Cell, cell_settings, score_text

TUNING = {**SMALL["ablation"], "seeds": [100], "head": "linear-backbone"}


def small():
    return load_experiment("small")


@pytest.fixture
def opened(monkeypatch):
    """The splits that cells open for their probes."""
    splits, real = [], probe.open_labelled

    def recording(labelled, root):
        splits.extend([labelled.train.split, labelled.val.split])
        return real(labelled, root)

    monkeypatch.setattr(probe, "open_labelled", recording)
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
    cell = cell_settings(small(), Cell({"sampling.cns": "0,3", "objective.temperature": 0.1}))
    profile = small().settings
    assert (
        cell.seeds == (5,)
        and cell.pretrain.epochs == 2
        and cell.probe.iterations == 7
        and cell.probe.heads == ("linear-embedding",)
    )
    assert cell.sampling.cns == (0, 3) and cell.objective.temperature == 0.1
    assert list(cell.data.labelled) == ["tune"]
    assert (cell.data.primary.train, cell.data.primary.val) == (profile.ablation.train, profile.ablation.val)
    assert (
        cell.network == profile.network
        and cell.augment == profile.augment
        and cell.pretrain.lr == profile.pretrain.lr
    )


def test_an_override_may_change_the_length_itself(pipeline):
    assert cell_settings(small(), Cell({"pretrain.epochs": 9})).pretrain.epochs == 9


@pytest.mark.parametrize(
    "overrides",
    [{"sampling.cn": 5}, {"objective.form": "logs"}, {"sampling.sigma_p": -1}, {"sampling.cns": "five"}],
)
def test_a_mistyped_override_is_one_line_with_its_name(pipeline, overrides):
    with pytest.raises(InputError) as caught:
        trials.train_and_score(small(), "ablations", {"odd": Cell(overrides)})
    assert next(iter(overrides)) in str(caught.value) and "\n" not in str(caught.value)


def test_a_cell_is_scored_on_the_tune_split_alone(pipeline, opened):
    trials.sweep_cell(small(), "2", 0.8)
    assert set(opened) == {"train", "tune"}


@pytest.mark.parametrize("profile", ["smoke", "quick", "mini", "photos", "paper"])
def test_the_reported_images_and_the_tune_images_are_apart_in_every_profile(profile):
    settings = load_experiment(profile).settings
    tune, reported = settings.ablation.val, [labelled.val for labelled in settings.data.labelled.values()]
    assert (tune.folder, tune.split) not in [(source.folder, source.split) for source in reported]
    train = settings.ablation.train
    assert train.split != tune.split or train.part[1] <= tune.part[0]


def test_a_cell_keeps_mean_deviation_and_seeds_and_trains_what_it_names(pipeline):
    result = trials.sweep_cell(small(), "0,3", 0.4)
    kept = json.loads((small().files.results / "sweep/cns0,3-sigma0.4.json").read_text())
    assert kept["overrides"] == {"sampling.cns": "0,3", "sampling.sigma_p": 0.4}
    assert kept["seeds"].keys() == {"0", "1"} and kept["head"] == "linear-backbone"
    assert result["miou_mean"] == pytest.approx(sum(result["seeds"].values()) / 2)
    assert result["miou_std"] == pytest.approx(abs(result["seeds"][0] - result["seeds"][1]) / 2**0.5)
    trained = load_checkpoint(small().files.artifacts / "sweep/cns0,3-sigma0.4/seed1.pt").identity["settings"]
    assert (
        list(trained["sampling"]["cns"]) == [0, 3]
        and trained["sampling"]["sigma_p"] == 0.4
        and trained["pretrain"]["epochs"] == 1
    )


def test_the_whole_listed_grid_is_made_and_a_cell_of_ones_own_joins_it(pipeline):
    paths.PARAMS.write_text(
        yaml.safe_dump({**SMALL_PARAMS, "sweep": {"cns": [0, "0,2"], "sigma_p": [0.4, 0.8]}})
    )
    results = trials.sweep(small())
    assert results.keys() == {"cns0-sigma0.4", "cns0-sigma0.8", "cns0,2-sigma0.4", "cns0,2-sigma0.8"}
    trials.sweep_cell(small(), 3, 0.8)
    assert read_results(small(), "sweep").keys() == {*results, "cns3-sigma0.8"}
    assert results["cns0-sigma0.4"]["overrides"] == {"sampling.cns": 0, "sampling.sigma_p": 0.4}
    assert trials.sweep_cell(small(), 0, 0.4)["seeds"] == results["cns0-sigma0.4"]["seeds"]


def test_all_listed_changes_and_the_base_are_made_and_gathered(pipeline):
    results = trials.ablate(small())
    assert results.keys() == {"base", "ratio"}
    assert results["base"]["overrides"] == {} and results["ratio"]["overrides"] == {"objective.form": "ratio"}
    gathered = read_results(small(), "ablations")
    assert gathered.keys() == {"base", "ratio"}  # and none of the .origin files
    assert all(gathered[name]["miou_mean"] == results[name]["miou_mean"] for name in results)
    assert read_results(small(), "sweep") == {}
    before = (small().files.results / "ablations/ratio.json").read_bytes()
    trials.ablate(small())
    assert (small().files.results / "ablations/ratio.json").read_bytes() == before


@pytest.fixture
def worked(monkeypatch):
    """The cells that are trained, and the checkpoints that are probed, from here on."""
    done, train, score = [], trials.train_jobs, probe.score_checkpoint

    def training(experiment, jobs, desc):
        done.extend(("trained", job.path.parent.name, job.seed) for job in jobs)
        return train(experiment, jobs, desc)

    def scoring(root, settings, path, seed):
        done.append(("scored", path.parent.name, seed))
        return score(root, settings, path, seed)

    monkeypatch.setattr(trials, "train_jobs", training)
    monkeypatch.setattr(probe, "score_checkpoint", scoring)
    return done


def test_a_finished_cell_is_read_and_neither_trained_nor_probed_again(pipeline, worked):
    cell = "cns2-sigma0.8"
    first = trials.sweep_cell(small(), 2, 0.8)
    assert worked == [(what, cell, seed) for what in ("trained", "scored") for seed in (0, 1)]
    worked.clear()
    assert trials.sweep_cell(small(), 2, 0.8) == first and worked == []
    shutil.rmtree(small().files.trial("sweep", cell))
    assert trials.sweep_cell(small(), 2, 0.8) == first and worked == []
    assert not small().files.trial("sweep", cell).exists()


@pytest.mark.parametrize(("change", "again"), [
    ("score", [("trained", "ratio", 1), ("scored", "ratio", 1)]),
    ("probe", [(what, "ratio", seed) for what in ("trained", "scored") for seed in (0, 1)]),
])  # fmt: skip
def test_an_edited_score_and_another_probe_are_no_finished_cell(pipeline, worked, change, again):
    cells = {"ratio": Cell({"objective.form": "ratio"})}
    first = trials.train_and_score(small(), "ablations", cells)
    worked.clear()
    if change == "score":
        path = small().files.score("ablations", "ratio", 1)
        content = json.loads(path.read_text())
        content["scores"]["linear-backbone"]["miou"] = 0.99
        path.write_text(json.dumps(content))
    else:
        write_profile(pipeline, {"ablation.iterations": 3})
    second = trials.train_and_score(small(), "ablations", cells)
    assert worked == again and (second == first) == (change == "score")


@pytest.mark.parametrize("cns", ["abc", "5,", "5;20", "-3", "", "2.5"])
def test_a_cns_that_is_no_number_is_one_line_that_says_what_is_allowed(pipeline, cns):
    with pytest.raises(InputError) as caught:
        trials.sweep_cell(small(), cns, 0.8)
    message = str(caught.value)
    assert "sampling.cns" in message and "e.g. 5 or 5,20" in message and repr(cns) in message
    assert "\n" not in message and not (small().files.artifacts / "sweep").exists()


def test_a_deviation_is_of_several_seeds(pipeline):
    assert score_text({"miou_mean": 0.1234, "miou_std": 0.0, "seeds": {0: 0.1234}}) == "12.34 (one seed)"
    assert score_text({"miou_mean": 0.2, "miou_std": 0.011, "seeds": {0: 0.1, 1: 0.3}}) == "20.00 +- 1.10"


def test_trials_are_listed_with_the_best_of_each_method_in_bold(pipeline):
    write_profile(pipeline, {f"tuning.{key}": value for key, value in TUNING.items()})
    listed = {"hierarchical": [{}, {"pretrain.lr": 0.1}], "moco": [{}]}
    paths.PARAMS.write_text(yaml.safe_dump({**SMALL_PARAMS, "tuning": listed}))
    with pytest.raises(
        InputError, match="no trials for segsort under 'tuning'; choose from: hierarchical, moco"
    ):
        trials.tune(small(), ["segsort"])
    results = trials.tune(small())
    assert list(results) == ["hierarchical-0", "hierarchical-1", "moco-0"]
    best = max(("hierarchical-0", "hierarchical-1"), key=lambda name: results[name]["miou_mean"])
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in (small().files.results / "tuning.md").read_text().splitlines()
        if line.startswith("| ")
    ]
    assert rows[0] == ["trial", "method", "changed", "mIoU", "seeds"] and rows[2][2] == "pretrain.lr 0.1"
    for name, _, _, score, seeds in rows[1:]:
        text = f"{100 * results[name]['miou_mean']:.2f}"
        assert score == (f"**{text}**" if name in (best, "moco-0") else text) and seeds == "100"
