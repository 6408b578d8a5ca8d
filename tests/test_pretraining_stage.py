"""The stage `pretraining`: checkpoints are trained once, resumed, and trained anew when what made them has
changed; what they replace stays until then."""

import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from conftest import add_runs, ages, change_profile, told, write_profile
from jobs import train_until

from hgrl.core import paths
from hgrl.core.checkpoint import load_checkpoint
from hgrl.core.experiment import NOT_IN_PROFILE, load_experiment
from hgrl.grouping.stage import auto_height_scale, group
from hgrl.pretraining import loop
from hgrl.pretraining import stage as stages
from hgrl.pretraining.checkpoints import snapshot_file
from hgrl.pretraining.loop import TrainingState
from hgrl.pretraining.methods import REGISTRY, check_methods
from hgrl.pretraining.stage import prepare, pretrain, training_jobs, training_samples

STEPS = 6  # of each of the two seeds: 6 images, batches of 3, 3 epochs


@pytest.fixture
def train(experiment):
    """A function that trains a run of the profile as its files are now."""
    return lambda run="ours", seed=None: pretrain(experiment(), experiment().run(run), seed)


@pytest.fixture
def samples_of(experiment):
    """A function that gives the images that a run learns from."""

    def found(run="ours"):
        small = experiment()
        own = small.run(run)
        return training_samples(small, own.settings, own.method, own.definition.grouping)

    return found


@pytest.fixture
def folder(experiment):
    return experiment().files.checkpoints("ours")


def test_a_trained_run_stays_and_its_results_are_equal_when_made_again(experiment, train, folder, steps):
    checkpoints, results = ages(folder), experiment().files.results / "pretraining"
    before = {name: (results / name).read_bytes() for name in ("ours.json", "ours.csv")}
    assert {path.name for path in checkpoints} == {"seed0.pt", "seed1.pt"}
    train()
    assert steps == [] and ages(folder) == checkpoints
    assert {name: (results / name).read_bytes() for name in before} == before
    content = json.loads(before["ours.json"])
    assert content["seeds"].keys() == {"0", "1"} and content["seeds"]["0"]["steps"] == STEPS
    assert json.loads((results / "ours.origin.json").read_text())["settings"]["sampling"]["cns"] == [2]


def test_seconds_of_training_are_kept_while_they_are_those_of_the_run(pipeline, experiment, train, folder):
    origin = experiment().files.result("pretraining", "ours.origin")

    def seconds():
        return json.loads(origin.read_text())["core_seconds"]

    shutil.rmtree(folder)
    train()
    assert seconds().keys() == {"0", "1"} and min(seconds().values()) > 0
    origin.write_text(json.dumps(json.loads(origin.read_text()) | {"core_seconds": {"0": 1e6, "1": 1e6}}))
    (folder / "seed1.pt").unlink()
    train()
    assert seconds()["0"] == 1e6 and 0 < seconds()["1"] < 1e6
    known = seconds()
    write_profile(pipeline, {"probe.iterations": 7})  # the run is judged in another way, not trained in one
    train()
    assert seconds() == known
    content = json.loads(origin.read_text())
    content["settings"]["pretrain"]["lr"] = 0.5  # of another training
    origin.write_text(json.dumps(content))
    train()
    assert seconds() == {"0": None, "1": None}
    origin.unlink()  # nobody knows
    train()
    assert seconds() == {"0": None, "1": None}


def test_the_loss_curve_has_a_row_for_each_seed_and_step(experiment, folder):
    curve = experiment().files.result("pretraining", "ours").with_suffix(".csv")
    header, *rows = curve.read_text().splitlines()
    assert header == "seed,step,loss"
    places = [f"{seed},{step}" for seed in (0, 1) for step in range(1, STEPS + 1)]
    assert [row.rsplit(",", 1)[0] for row in rows] == places
    losses = [float(row.rsplit(",", 1)[1]) for row in rows[:STEPS]]
    np.testing.assert_allclose(losses, load_checkpoint(folder / "seed0.pt").losses, atol=1e-6)


def test_an_interrupted_training_resumes_where_it_stopped_and_ends_alike(
    pipeline, finished_home, train, folder, monkeypatch, steps
):
    shutil.rmtree(folder)
    write_profile(pipeline, {"pretrain.checkpoint_minutes": 0.0})
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    with monkeypatch.context() as patch:
        counted = TrainingState.train_step

        def killed(self, *given):
            if len(steps) == 4:
                raise KeyboardInterrupt
            return counted(self, *given)

        patch.setattr(TrainingState, "train_step", killed)
        with pytest.raises(KeyboardInterrupt):
            train()
    assert load_checkpoint(folder / "seed0.pt").step == 4
    steps.clear()
    resumed = train()
    assert steps == [0] * (STEPS - 4) + [1] * STEPS
    for seed, saved in enumerate(resumed):
        whole = load_checkpoint(finished_home / f"artifacts/small/checkpoints/ours/seed{seed}.pt")
        assert torch.equal(saved.losses, whole.losses)
        assert all(torch.equal(saved.method[key], value) for key, value in whole.method.items())


@pytest.mark.parametrize("what", ["settings", "damage", "trees"])
def test_a_stale_checkpoint_is_trained_anew_and_the_reader_is_told_why(
    pipeline, experiment, train, folder, steps, capsys, what
):
    path = folder / "seed1.pt"
    if what == "settings":
        write_profile(pipeline, {"pretrain.lr": 2e-3})
    elif what == "damage":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        experiment().files.height_scale().write_text('{"scale": 3.0}')
    train()
    lines = [row for row in capsys.readouterr().out.splitlines() if "trained anew" in row]
    reason = {"settings": "pretrain.lr", "damage": "damaged", "trees": "origin"}[what]
    assert lines and all(reason in row for row in lines)
    assert steps.count(1) == STEPS
    assert steps.count(0) == (0 if what == "damage" else STEPS)


@pytest.mark.parametrize("what", ["settings", "code"])
def test_trees_grown_anew_in_another_way_are_trained_on_anew(
    pipeline, experiment, folder, grouped, monkeypatch, what
):
    """Even where the scale of their heights stays the same."""

    def origin():
        small = experiment()
        return training_jobs(small, "hierarchical", small.run("ours").settings, folder)[0].origin

    before, file = origin(), experiment().files.height_scale()
    scale = json.loads(file.read_text())["scale"]
    if what == "settings":
        write_profile(pipeline, {"grouping.max_regions": 3})
    else:
        monkeypatch.setattr("hgrl.grouping.stage.code_fingerprint", lambda *modules: "other code")
    group(experiment())
    file.write_text(json.dumps(json.loads(file.read_text()) | {"scale": scale}))
    assert origin() != before


def test_a_stale_checkpoint_is_there_until_its_replacement_is_complete(
    pipeline, experiment, train, folder, monkeypatch
):
    """Two edits, two interruptions: both former checkpoints wait aside, with their snapshots; then they
    go."""
    write_profile(pipeline, {"pretrain.snapshots": [0.5]})
    train()
    former = [(folder / name).read_bytes() for name in ("seed0.pt", "seed0.at050.pt")]
    aside = experiment().files.set_aside(folder)
    for rate, waiting in ((2e-3, ["seed0.pt"]), (3e-3, ["seed0.pt", "seed0~2.pt"])):
        write_profile(pipeline, {"pretrain.snapshots": [0.5], "pretrain.lr": rate})
        with monkeypatch.context() as patch:
            patch.setattr(stages, "train", lambda job, tick: train_until(job, 4) and stop())
            with pytest.raises(KeyboardInterrupt):
                train(seed=0)
        assert [path.name for path in sorted(aside.glob("seed0[.~]*")) if ".at" not in path.name] == waiting
        assert [(aside / name).read_bytes() for name in ("seed0.pt", "seed0.at050.pt")] == former
        assert load_checkpoint(folder / "seed0.pt").step == 4
    train()
    assert load_checkpoint(folder / "seed0.pt").complete and not list(aside.iterdir())


def stop():
    raise KeyboardInterrupt


def test_a_damaged_checkpoint_of_a_run_in_progress_is_replaced_by_the_one_before_it(
    pipeline, finished_home, experiment, train, folder, steps, capsys, monkeypatch
):
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    write_profile(pipeline, {"pretrain.checkpoint_minutes": 0.0})
    shutil.rmtree(folder)
    small = experiment()
    job, _ = training_jobs(small, "hierarchical", small.run("ours").settings, folder)
    train_until(job, 4)
    steps.clear()
    path = folder / "seed0.pt"
    path.write_bytes(path.read_bytes()[:1000])
    train(seed=0)
    printed = capsys.readouterr().out
    assert "seed0.pt: damaged" in printed
    assert "training resumes from seed0.step000003.pt, step 3 of 6" in printed
    assert steps == [0] * 3
    whole = load_checkpoint(finished_home / "artifacts/small/checkpoints/ours/seed0.pt")
    assert torch.equal(load_checkpoint(path).losses, whole.losses)


def test_a_complete_run_without_its_snapshots_is_trained_anew_and_the_reader_is_told(
    pipeline, train, folder, steps, capsys
):
    write_profile(pipeline, {"pretrain.snapshots": [0.5]})
    train()
    said = "seed0.pt: trained anew, because its snapshots at 0.5 of the run are missing"
    assert said in capsys.readouterr().out
    assert steps == [0] * STEPS + [1] * STEPS
    steps.clear()
    train()
    assert steps == [] and load_checkpoint(snapshot_file(folder / "seed0.pt", 0.5)).step == 3
    snapshot_file(folder / "seed1.pt", 0.5).write_bytes(b"damaged")
    train()
    assert steps == [1] * STEPS
    steps.clear()
    write_profile(pipeline)
    train()
    assert steps == [] and not snapshot_file(folder / "seed0.pt", 0.5).exists()


def test_a_seed_that_is_none_of_the_profiles_is_one_line(train):
    assert "seed 7 is none of its seeds; choose one of: 0, 1" in told(train, "ours", 7)


def test_training_without_trees_says_what_to_run(experiment, train):
    shutil.rmtree(experiment().files.trees())
    assert "no region trees; run `dvc repro grouping@small` first" in told(train)


def test_prepare_makes_nothing_where_nothing_is_missing(experiment, steps, grouped, monkeypatch):
    for name in ("prepare_data", "group"):
        monkeypatch.setattr(stages, name, lambda *given: pytest.fail("made again"))
    prepare(experiment(), "ours", "random", "lab")
    assert steps == [] and grouped == []


def test_prepare_makes_what_is_missing_and_only_that(experiment, folder, steps, grouped):
    files = experiment().files
    (folder / "seed1.pt").unlink()
    prepare(experiment(), "random")
    assert steps == []
    prepare(experiment(), "ours")
    assert steps == [1] * STEPS and grouped == []
    steps.clear()
    files.height_scale().unlink()
    prepare(experiment(), "ours")
    assert steps == [] and grouped == [] and files.height_scale().exists()
    manifest = files.manifest.read_bytes()
    files.manifest.unlink()
    prepare(experiment(), "ours")
    assert steps == [] and grouped == [] and files.manifest.read_bytes() == manifest


# Runs that learn from other trees or other images


def test_a_run_learns_from_the_trees_of_its_grouping(with_hed, experiment, grouped, steps):
    prepare(experiment(), "ours-hed")
    assert steps == [0] * STEPS + [1] * STEPS
    small = experiment()
    run, folder = small.run("ours-hed"), small.files.checkpoints("ours-hed")
    job, _ = training_jobs(small, run.method, run.settings, folder, "hed")
    assert (job.method, len(job.samples), job.path) == ("hierarchical", 6, folder / "seed0.pt")
    assert job.trees == small.files.trees("hed") and job.height_scale == auto_height_scale(small, "hed")


def test_missing_trees_of_a_grouping_say_what_to_run(with_hed, train):
    line = told(train, "ours-hed")
    assert "trees-hed: no region trees; run `dvc repro grouping-hed@small` first" in line


def test_methods_without_trees_see_the_same_images_as_those_with_and_others_their_own(
    pipeline, experiment, samples_of
):
    missing = samples_of().names[0]
    experiment().files.tree_file(missing).unlink()
    for run in ("ours", "moco", "segsort"):
        names = samples_of(run).names
        assert len(names) == 5 and missing not in names
    labelled = samples_of("supervised")
    assert len(labelled) == 4 and labelled.mask(0).shape == (48, 48)
    other = {"data.pretrain": [{"kind": "voc", "folder": "VOC2012", "split": "tune"}]}
    add_runs({name: {"method": name, "overrides": other} for name in ("moco", "hierarchical")})
    assert len(samples_of("moco")) == 3
    assert len(samples_of("hierarchical")) == 0  # no trees were grown for them


@pytest.mark.parametrize("run", ["moco", "segsort", "supervised"])
def test_rivals_are_trained_by_the_same_stage(train, folder, run):
    first, second = train(run)
    assert first.complete and first.losses.isfinite().all() and not torch.equal(first.losses, second.losses)
    assert first.identity["images"] == (4 if run == "supervised" else 6)
    before = ages(folder)
    train()
    assert ages(folder) == before


def test_a_run_on_anothers_checkpoints_trains_none_and_is_prepared_by_it(experiment, train):
    said = "run 'moco-e2e' has the checkpoints of 'moco'; list that under 'trained', not this"
    assert told(train, "moco-e2e").endswith(said)
    prepare(experiment(), "moco-e2e")
    files = experiment().files
    assert files.checkpoints("moco").exists() and not files.checkpoints("moco-e2e").exists()


def test_checkpoints_follow_their_own_methods_code_alone(train, steps, monkeypatch):
    train("moco")
    steps.clear()
    real, own = stages.code_fingerprint, REGISTRY["moco"].__module__
    monkeypatch.setattr(
        stages, "code_fingerprint", lambda *given, **options: real(*given, **options) + "!" * (own in given)
    )
    train("ours")
    assert steps == []
    train("moco")
    assert len(steps) == 2 * STEPS


def test_runs_learn_from_their_own_split_and_no_other_run_does(counted, experiment, samples_of):
    prepare(experiment())
    for method in ("ours", "moco"):
        for split in ("single", "many"):
            names = samples_of(f"{method}-{split}").names
            assert names == tuple(f"VOC2012/{split}_{index:05d}" for index in range(3))
        assert all(name.startswith("VOC2012/unlabelled_") for name in samples_of(method).names)
    # could not be read: methods without trees leave it out too
    experiment().files.tree_file("VOC2012/many_00002").unlink()
    assert len(samples_of("moco-many")) == 2


@pytest.mark.parametrize("run", ["ours-many", "moco-single", "instfeat-many"])
def test_runs_on_counted_scenes_are_trained_by_the_same_stage(counted, experiment, run, steps):
    prepare(experiment(), run)
    assert steps == [0] * STEPS + [1] * STEPS  # 3 images in batches of 3, twice the 3 epochs
    first, second = (load_checkpoint(experiment().files.checkpoint(run, seed)) for seed in (0, 1))
    assert first.complete and first.identity["images"] == 3 and first.losses.isfinite().all()
    assert not torch.equal(first.losses, second.losses)


def test_runs_of_other_profiles_are_left_out_in_one_line(counted, experiment, train):
    params = yaml.safe_load(paths.PARAMS.read_text())
    (paths.HOME / "profiles/mini.yaml").write_text("{}")
    params["runs"]["ours-many"]["profiles"] = ["mini"]
    paths.PARAMS.write_text(yaml.safe_dump(params))
    line = told(train, "ours-many")
    assert "run 'ours-many' is left out of profile 'small': not in this profile" in line
    assert experiment().left_out("ours-many") == NOT_IN_PROFILE
    assert experiment().left_out("moco-many") is None


def test_a_profile_says_why_it_goes_without_a_run_and_those_that_start_from_it(counted, experiment):
    change_profile(counted, {"without": {"moco": "its images show one thing each"}})
    reasons = {experiment().left_out(run) for run in ("moco", "moco-e2e")}
    assert reasons == {"its images show one thing each"}
    assert experiment().left_out("ours-many") is None


@pytest.mark.parametrize("profile", ["smoke", "quick", "mini", "photos", "paper"])
def test_profiles_go_without_listed_runs_only_and_their_methods_are_known(profile):
    found = load_experiment(profile)
    assert set(found.settings.without) <= {*found.listed("trained"), *found.extras("trained")}
    check_methods(found)


def test_images_that_no_trees_were_grown_for_are_one_line(counted, experiment, train):
    change_profile(counted, {"data.extra": []})
    prepare(experiment())
    line = told(train, "ours-many")
    assert "no region trees; list the run's own `data.pretrain` under 'data.extra'" in line
    assert "dvc repro grouping@small" in line


def test_a_run_on_a_real_data_set_that_is_missing_is_left_out_and_says_which(monkeypatch, tmp_path):
    monkeypatch.setenv("HGRL_DATA", str(tmp_path))
    paper = load_experiment("paper")
    assert paper.left_out("ours-cns5") is None
    assert paper.left_out("moco-imagenet") == "data set missing: ImageNet"
    (tmp_path / "ImageNet").mkdir()
    assert paper.left_out("moco-imagenet") is None


def test_stand_ins_learn_from_a_share_of_the_images(counted, experiment, samples_of):
    prepare(experiment())
    assert len(samples_of("ours-cns5-small")) == 1  # an eighth of 6
