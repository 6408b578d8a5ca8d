"""Data, trees and checkpoints of a profile: made once, kept, continued, and made anew when what made them has
changed.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import write_profile
from PIL import Image

from hgrl.core import paths
from hgrl.core.checkpoint import best_file, load_checkpoint, snapshot_file
from hgrl.core.errors import InputError
from hgrl.core.settings import NOT_IN_PROFILE, left_out, load_settings
from hgrl.evaluation.stage import unavailable
from hgrl.grouping import group as grouping
from hgrl.pretraining import loop as training
from hgrl.pretraining import stage as stages
from hgrl.pretraining.loop import Training
from hgrl.pretraining.loop import pretrain as pretrain_one

REPOSITORY = Path(__file__).resolve().parents[1]
STEPS = 6  # of each of the two seeds: 6 images, batches of 3, 3 epochs


def ages(folder):
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}


def first_image(home):
    return sorted((home / "artifacts/small/data/VOC2012/JPEGImages").glob("unlabelled_*.jpg"))[0]


def line(call, *args):
    """The one line of the InputError that a call raises."""
    with pytest.raises(InputError) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def steps(monkeypatch):
    """The steps trained from here on, one entry each."""
    done, real = [], Training._train_step
    monkeypatch.setattr(
        Training, "_train_step", lambda self, batch: (done.append(self.seed), real(self, batch))[1]
    )
    return done


@pytest.fixture
def grouped(monkeypatch):
    """The images grouped from here on, one entry each."""
    done, real = [], grouping.region_tree
    monkeypatch.setattr(
        grouping, "region_tree", lambda image, *rest: (done.append(image.shape), real(image, *rest))[1]
    )
    return done


def test_data_made_again_is_not_drawn_again_and_its_manifest_is_equal(pipeline):
    before, manifest = (
        ages(pipeline / "artifacts/small/data/VOC2012"),
        stages.manifest_path("small").read_bytes(),
    )
    answer = stages.prepare_data("small")
    assert ages(pipeline / "artifacts/small/data/VOC2012") == before
    assert stages.manifest_path("small").read_bytes() == manifest
    files = {name: found["files"] for name, found in answer["sets"].items()}
    assert files == {"pretrain": 6, "probe_train": 4, "probe_val": 4, "videos": 4}
    assert sum(answer["class_frequency"].values()) == pytest.approx(1)


def test_trees_are_made_once_and_their_summary_is_equal_when_made_again(pipeline, grouped):
    trees, summary = ages(paths.trees("small") / "VOC2012"), paths.results("small") / "grouping/trees.json"
    before = summary.read_bytes()
    assert len(trees) == 6
    answer = stages.group("small")
    assert grouped == []
    assert ages(paths.trees("small") / "VOC2012") == trees
    assert summary.read_bytes() == before
    assert (
        answer["images"] == 6
        and answer["failures"] == {}
        and answer["height_scale"] == stages.auto_height_scale("small")
    )
    origin = json.loads(summary.with_suffix(".origin.json").read_text())
    assert origin["settings"]["image_scale"] == 2.0 and "versions" in origin and "seconds" in origin


def test_a_lost_tree_is_made_again_alone(pipeline, grouped):
    lost = sorted((paths.trees("small") / "VOC2012").glob("*.npz"))[3]
    before = lost.read_bytes()
    lost.unlink()
    stages.group("small")
    assert len(grouped) == 1
    assert lost.read_bytes() == before


def test_trees_of_other_settings_are_made_anew_and_the_reader_is_told(pipeline, grouped, capsys):
    write_profile(pipeline, {"grouping.image_scale": 1.0})
    stages.group("small")
    assert len(grouped) == 6
    assert "settings" in next(row for row in capsys.readouterr().out.splitlines() if "made anew" in row)


def test_an_unreadable_image_is_listed_and_the_rest_is_grouped_and_trained(pipeline, steps):
    image = first_image(pipeline)
    image.write_bytes(image.read_bytes()[:300])
    shutil.rmtree(paths.trees("small"))
    shutil.rmtree(paths.checkpoints("small", "ours"))
    summary = stages.group("small")
    assert summary["images"] == 5
    ((name, message),) = summary["failures"].items()
    assert name == f"VOC2012/{image.stem}" and str(image) in message and "\n" not in message
    assert (
        json.loads((paths.results("small") / "grouping/trees.json").read_text())["failures"]
        == summary["failures"]
    )
    assert name not in stages.training_samples("small", load_settings("small")).names
    first, _ = stages.pretrain("small", "ours")
    assert first.identity["images"] == 5
    assert len(steps) == 2 * first.total_steps


def test_a_set_without_one_readable_image_is_one_line(pipeline):
    for image in (pipeline / "artifacts/small/data/VOC2012/JPEGImages").glob("unlabelled_*.jpg"):
        image.write_bytes(b"no image")
    shutil.rmtree(paths.trees("small"))
    assert f"none of the 6 pretraining images could be grouped; the first: {first_image(pipeline)}" in line(
        stages.group, "small"
    )


def test_a_trained_run_stays_and_its_results_are_equal_when_made_again(pipeline, steps):
    checkpoints, results = ages(paths.checkpoints("small", "ours")), paths.results("small") / "pretraining"
    before = {name: (results / name).read_bytes() for name in ("ours.json", "ours.csv")}
    assert (
        {"seed0.pt", "seed1.pt"}
        <= {path.name for path in checkpoints}
        <= {"seed0.pt", "seed1.pt", "seed0.best.pt", "seed1.best.pt"}
    )
    stages.pretrain("small", "ours")
    assert steps == []
    assert ages(paths.checkpoints("small", "ours")) == checkpoints
    assert {name: (results / name).read_bytes() for name in before} == before
    content = json.loads(before["ours.json"])
    assert content["seeds"].keys() == {"0", "1"} and content["seeds"]["0"]["steps"] == STEPS
    assert json.loads((results / "ours.origin.json").read_text())["settings"]["sampling"]["cns"] == [2]


def test_the_loss_curve_has_a_row_for_each_seed_and_step(pipeline):
    header, *rows = (paths.results("small") / "pretraining/ours.csv").read_text().splitlines()
    assert header == "seed,step,loss"
    assert [row.rsplit(",", 1)[0] for row in rows] == [
        f"{seed},{step}" for seed in (0, 1) for step in range(1, STEPS + 1)
    ]
    losses = [float(row.rsplit(",", 1)[1]) for row in rows[:STEPS]]
    np.testing.assert_allclose(
        losses, load_checkpoint(paths.checkpoints("small", "ours") / "seed0.pt").losses, atol=1e-6
    )


def test_an_interrupted_training_goes_on_where_it_stopped_and_ends_alike(
    pipeline, finished_home, monkeypatch, steps
):
    shutil.rmtree(paths.checkpoints("small", "ours"))
    write_profile(pipeline, {"pretrain.checkpoint_minutes": 0.0})
    monkeypatch.setattr(training, "LOG_EVERY", 1)
    with monkeypatch.context() as patch:
        counted = Training._train_step

        def killed(self, batch):
            if len(steps) == 4:
                raise KeyboardInterrupt
            return counted(self, batch)

        patch.setattr(Training, "_train_step", killed)
        with pytest.raises(KeyboardInterrupt):
            stages.pretrain("small", "ours")
    assert load_checkpoint(paths.checkpoints("small", "ours") / "seed0.pt").step == 4
    steps.clear()
    resumed = stages.pretrain("small", "ours")
    assert steps == [0] * (STEPS - 4) + [1] * STEPS
    for seed, saved in enumerate(resumed):
        whole = load_checkpoint(finished_home / f"artifacts/small/checkpoints/ours/seed{seed}.pt")
        assert torch.equal(saved.losses, whole.losses)
        assert all(torch.equal(saved.method[key], value) for key, value in whole.method.items())


@pytest.mark.parametrize("what", ["settings", "cut off", "trees"])
def test_a_stale_checkpoint_is_trained_anew_and_the_reader_is_told_why(pipeline, steps, capsys, what):
    path = paths.checkpoints("small", "ours") / "seed1.pt"
    if what == "settings":
        write_profile(pipeline, {"pretrain.lr": 2e-3})
    elif what == "cut off":
        path.write_bytes(path.read_bytes()[:1000])
    else:
        (paths.trees("small") / "height_scale.json").write_text('{"scale": 3.0}')
    best_file(path).unlink(missing_ok=True)  # else a damaged one would be mended by it
    stages.pretrain("small", "ours")
    told = [row for row in capsys.readouterr().out.splitlines() if "training anew" in row]
    reason = {"settings": "pretrain.lr", "cut off": "cut off", "trees": "origin"}[what]
    assert told and all(reason in row for row in told)
    assert steps.count(1) == STEPS
    assert steps.count(0) == (0 if what == "cut off" else STEPS)


def test_a_damaged_checkpoint_of_a_run_in_progress_goes_on_from_the_one_before_it(
    pipeline, finished_home, steps, capsys, monkeypatch
):
    monkeypatch.setattr(training, "LOG_EVERY", 1)
    write_profile(pipeline, {"pretrain.checkpoint_minutes": 0.0, "pretrain.keep_best": False})
    shutil.rmtree(paths.checkpoints("small", "ours"))
    task, *_ = stages.training_tasks(
        "small", "hierarchical", load_settings("small", "ours"), paths.checkpoints("small", "ours")
    )
    pretrain_one(*task[:7], stop_after=4, origin=task[7])
    steps.clear()
    path = paths.checkpoints("small", "ours") / "seed0.pt"
    path.write_bytes(path.read_bytes()[:1000])
    stages.pretrain("small", "ours", 0)
    assert (
        "seed0.pt: cut off" in (told := capsys.readouterr().out)
        and "training goes on from seed0.step000003.pt, step 3 of 6" in told
    )
    assert steps == [0] * 3
    whole = load_checkpoint(finished_home / "artifacts/small/checkpoints/ours/seed0.pt")
    assert torch.equal(load_checkpoint(path).losses, whole.losses)


def test_a_complete_run_without_its_snapshots_is_trained_anew_and_the_reader_is_told(pipeline, steps, capsys):
    folder = paths.checkpoints("small", "ours")
    write_profile(pipeline, {"pretrain.snapshots": [0.5]})
    stages.pretrain("small", "ours")
    assert (
        "seed0.pt: training anew, because its snapshots at 0.5 of the run are missing"
        in capsys.readouterr().out
    )
    assert steps == [0] * STEPS + [1] * STEPS
    steps.clear()
    stages.pretrain("small", "ours")
    assert steps == [] and load_checkpoint(snapshot_file(folder / "seed0.pt", 0.5)).step == 3
    snapshot_file(folder / "seed1.pt", 0.5).write_bytes(b"damaged")
    stages.pretrain("small", "ours")
    assert steps == [1] * STEPS
    steps.clear()
    write_profile(pipeline)
    stages.pretrain("small", "ours")
    assert steps == [] and not snapshot_file(folder / "seed0.pt", 0.5).exists(), (
        "a folder holds what the settings ask for"
    )


def test_a_seed_that_is_none_of_the_profiles_is_one_line(pipeline):
    assert "seed 7 is none of its seeds; choose one of: 0, 1" in line(stages.pretrain, "small", "ours", 7)


def test_training_without_trees_says_what_to_run(pipeline):
    shutil.rmtree(paths.trees("small"))
    assert "no region trees; run `dvc repro grouping@small` first" in line(stages.pretrain, "small", "ours")


def test_a_missing_data_root_is_one_line_with_the_path_and_the_variable(pipeline, monkeypatch):
    write_profile(pipeline, {"data.scenes": None})
    monkeypatch.setenv("HGRL_DATA", str(pipeline / "nowhere"))
    for stage in (stages.prepare_data, stages.group):
        assert str(pipeline / "nowhere") in line(stage, "small")
        assert "HGRL_DATA" in line(stage, "small")


def test_a_data_root_without_the_data_set_is_one_line_with_the_path_and_the_variable(pipeline, monkeypatch):
    write_profile(pipeline, {"data.scenes": None})
    (pipeline / "empty").mkdir()
    monkeypatch.setenv("HGRL_DATA", str(pipeline / "empty"))
    assert str(pipeline / "empty" / "VOC2012") in line(stages.prepare_data, "small")
    assert "HGRL_DATA" in line(stages.prepare_data, "small")


def test_a_mask_of_another_size_than_its_image_is_named_when_the_data_are_looked_through(pipeline):
    mask = sorted((pipeline / "artifacts/small/data/VOC2012/SegmentationClass").glob("val_*.png"))[0]
    Image.fromarray(np.zeros((5, 7), np.uint8)).save(mask)
    assert f"{mask}: mask is 7x5 but its image" in line(stages.prepare_data, "small")


def test_prepare_makes_nothing_where_nothing_is_missing(pipeline, steps, grouped, monkeypatch):
    for name in ("prepare_data", "group"):
        monkeypatch.setattr(stages, name, lambda *given: pytest.fail("made again"))
    stages.prepare("small", "ours", "random", "lab")
    assert steps == [] and grouped == []


def test_prepare_makes_what_is_missing_and_only_that(pipeline, steps, grouped):
    (paths.checkpoints("small", "ours") / "seed1.pt").unlink()
    stages.prepare("small", "random")
    assert steps == []
    stages.prepare("small", "ours")
    assert steps == [1] * STEPS and grouped == []
    steps.clear()
    (paths.trees("small") / "height_scale.json").unlink()
    stages.prepare("small", "ours")
    assert steps == [] and grouped == [] and (paths.trees("small") / "height_scale.json").exists()
    manifest = stages.manifest_path("small").read_bytes()
    stages.manifest_path("small").unlink()
    stages.prepare("small", "ours")
    assert steps == [] and grouped == [] and stages.manifest_path("small").read_bytes() == manifest


# A run that learns from the trees of a named grouping


@pytest.fixture
def with_hed(pipeline):
    """The pipeline with a tiny edge network and a run that learns from its trees."""
    scenes = stages.load_settings("small").data.scenes.model_copy(update={"contours": 2})
    hed = {"width": 2, "shrink": [1], "crop_size": 48, "iterations": 3, "batch": 2, "lr": 1e-3}
    changes = {
        "data.scenes": scenes.model_dump(),
        "groupings": {"hed": {"edges": "hed", "image_scale": 1.0}},
        "hed": hed,
    }
    write_profile(pipeline, changes)
    params = yaml.safe_load(paths.PARAMS.read_text())
    params["runs"]["ours-hed"] = {"method": "hierarchical", "grouping": "hed"}
    paths.PARAMS.write_text(yaml.safe_dump(params))
    stages.prepare_data("small")
    return pipeline


def test_a_run_learns_from_the_trees_of_its_grouping_and_the_plain_ones_stay(with_hed, grouped, steps):
    stages.group("small")
    plain = ages(paths.trees("small"))
    stages.prepare("small", "ours-hed")
    assert ages(paths.trees("small")) == plain
    assert len(list((paths.trees("small", "hed") / "VOC2012").glob("*.npz"))) == 6
    assert steps == [0] * STEPS + [1] * STEPS
    assert stages.auto_height_scale("small") != stages.auto_height_scale("small", "hed")
    (method, _, samples, trees, scale, *_), *_ = stages.training_tasks(
        "small",
        "hierarchical",
        load_settings("small", "ours-hed"),
        paths.checkpoints("small", "ours-hed"),
        "hed",
    )
    assert (method, len(samples), trees, scale) == (
        "hierarchical",
        6,
        paths.trees("small", "hed"),
        stages.auto_height_scale("small", "hed"),
    )
    summary = json.loads(paths.hed_summary("small").read_text())
    assert summary["trunk"] == "from scratch" and summary["images"] == 4 and summary["iterations"] == 3
    assert json.loads((paths.results("small") / "grouping/trees-hed.json").read_text())["images"] == 6
    origin = json.loads((paths.results("small") / "grouping/trees-hed.origin.json").read_text())
    assert origin["settings"]["edges"] == "hed" and origin["settings"]["image_scale"] == 1.0


def test_trees_of_another_edge_network_are_made_anew_and_so_is_the_network_of_other_settings(
    with_hed, grouped, capsys
):
    stages.train_edge_network("small")
    stages.group("small", "hed")
    weights, origin = paths.hed_weights("small"), paths.results("small") / "hed/hed.origin.json"
    before = weights.read_bytes(), origin.read_bytes()
    stages.train_edge_network("small")
    assert (weights.read_bytes(), origin.read_bytes()) == before, (
        "a trained network stays, and so does the time it took"
    )
    profile = yaml.safe_load(paths.profile_file("small").read_text())
    profile["hed"]["seed"] = 1
    paths.profile_file("small").write_text(yaml.safe_dump(profile))
    grouped.clear()
    stages.train_edge_network("small")
    assert "training anew, because these changed: seed" in capsys.readouterr().out
    stages.group("small", "hed")
    assert len(grouped) == 6 and "made anew, because these changed: edge network" in capsys.readouterr().out


def test_missing_trees_and_a_missing_edge_network_say_what_to_run(with_hed):
    assert "trees-hed: no region trees; run `dvc repro grouping-hed@small` first" in line(
        stages.pretrain, "small", "ours-hed"
    )
    assert "hed.pt: no trained edge network; run `dvc repro hed@small` first" in line(
        stages.group, "small", "hed"
    )


def test_an_unknown_grouping_is_one_line_that_names_the_known_ones(with_hed):
    assert "no grouping named 'head'; add it to 'groupings', or choose one of: hed" in line(
        stages.group, "small", "head"
    )


def test_a_mistyped_setting_of_a_grouping_is_one_line(with_hed):
    profile = yaml.safe_load(paths.profile_file("small").read_text())
    profile["groupings"]["hed"]["edgs"] = "hed"
    paths.profile_file("small").write_text(yaml.safe_dump(profile))
    assert "groupings.hed: unknown setting 'grouping.edgs'" in line(load_settings, "small", "ours-hed")


def test_methods_without_trees_see_the_same_images_as_those_with_and_others_their_own(pipeline):
    settings = load_settings("small")
    missing = stages.training_samples("small", settings).names[0]
    stages.tree_path("small", missing).unlink()
    for method in ("hierarchical", "moco", "segsort"):
        names = stages.training_samples("small", settings, method).names
        assert len(names) == 5 and missing not in names
    labelled = stages.training_samples("small", settings, "supervised")
    assert len(labelled) == 4 and labelled.mask(0).shape == (48, 48)
    other = load_settings(
        "small", **{"data.pretrain": [{"kind": "voc", "folder": "VOC2012", "split": "tune"}]}
    )
    assert len(stages.training_samples("small", other, "moco")) == 3
    assert len(stages.training_samples("small", other)) == 0  # no trees were grown for them


@pytest.mark.parametrize("run", ["moco", "segsort", "supervised"])
def test_rivals_are_trained_by_the_same_stage(pipeline, run):
    first, second = stages.pretrain("small", run)
    assert first.complete and first.losses.isfinite().all() and not torch.equal(first.losses, second.losses)
    assert first.identity["images"] == (4 if run == "supervised" else 6)
    before = ages(paths.checkpoints("small", "ours"))
    stages.pretrain("small", "ours")
    assert ages(paths.checkpoints("small", "ours")) == before


def test_a_run_on_anothers_checkpoints_trains_none_and_is_prepared_by_it(pipeline):
    assert line(stages.pretrain, "small", "moco-e2e").endswith(
        "run 'moco-e2e' has the checkpoints of 'moco'; list that under 'trained', not this"
    )
    stages.prepare("small", "moco-e2e")
    assert paths.checkpoints("small", "moco").exists() and not paths.checkpoints("small", "moco-e2e").exists()


def test_checkpoints_follow_their_own_methods_code_alone(pipeline, steps, monkeypatch):
    stages.pretrain("small", "moco")
    steps.clear()
    real = stages.method_files
    monkeypatch.setattr(
        stages, "method_files", lambda name: [*real(name), *([paths.PARAMS] if name == "moco" else [])]
    )
    stages.pretrain("small", "ours")
    assert steps == []
    stages.pretrain("small", "moco")
    assert len(steps) == 2 * STEPS


# Runs on scenes of one object and of many, whose trees are grown with the profile's own


EXTRA = [{"kind": "voc", "folder": "VOC2012", "split": split} for split in ("single", "many")]


def with_counted_runs(home, changes):
    """The profile with scenes of one and of many objects, and the repository's own runs on them."""
    scenes = stages.load_settings("small").data.scenes.model_copy(update={"objects": 3})
    write_profile(home, {"data.scenes": scenes.model_dump(), "data.extra": EXTRA, **changes})
    params, repository = (
        yaml.safe_load(path.read_text()) for path in (paths.PARAMS, REPOSITORY / "params.yaml")
    )
    runs = {
        name: run for name, run in repository["runs"].items() if name.endswith(("-single", "-many", "-small"))
    }
    params["runs"] |= {name: {**run, "profiles": ["small"]} for name, run in runs.items()}
    paths.PARAMS.write_text(yaml.safe_dump(params))
    return home


@pytest.fixture
def counted(pipeline):
    return with_counted_runs(pipeline, {})


def test_trees_of_extra_images_are_grown_beside_the_own_and_do_not_move_the_scale(counted, grouped):
    scale, own = (
        stages.auto_height_scale("small"),
        {path.name: path.read_bytes() for path in (paths.trees("small") / "VOC2012").glob("*.npz")},
    )
    manifest = stages.prepare_data("small")
    assert {name: manifest["sets"][name]["files"] for name in ("pretrain", "VOC2012/single", "VOC2012/many")} == {
        "pretrain": 6, "VOC2012/single": 3, "VOC2012/many": 3,
    }  # fmt: skip
    summary = stages.group("small")
    assert len(grouped) == 12 and summary["images"] == 6 and summary["extra_images"] == 6
    assert stages.auto_height_scale("small") == summary["height_scale"] == scale
    trees = {path.name: path.read_bytes() for path in (paths.trees("small") / "VOC2012").glob("*.npz")}
    assert len(trees) == 12 and own.items() <= trees.items()
    stages.group("small")
    assert len(grouped) == 12
    (paths.trees("small") / "VOC2012/many_00001.npz").unlink()
    stages.group("small")
    assert len(grouped) == 13


def test_runs_learn_from_their_own_split_and_no_other_run_does(counted):
    stages.prepare("small")
    for method in ("hierarchical", "moco"):
        for split in ("single", "many"):
            names = stages.training_samples("small", load_settings("small", f"moco-{split}"), method).names
            assert names == tuple(f"VOC2012/{split}_{index:05d}" for index in range(3))
        assert all(
            name.startswith("VOC2012/unlabelled_")
            for name in stages.training_samples("small", load_settings("small"), method).names
        )
    # could not be read: methods without trees leave it out too
    stages.tree_path("small", "VOC2012/many_00002").unlink()
    assert len(stages.training_samples("small", load_settings("small", "moco-many"), "moco")) == 2


@pytest.mark.parametrize("run", ["ours-many", "moco-single", "instfeat-many"])
def test_runs_on_counted_scenes_are_trained_by_the_same_stage(counted, run, steps):
    stages.prepare("small", run)
    assert steps == [0] * STEPS + [1] * STEPS  # 3 images in batches of 3, twice the 3 epochs
    first, second = (load_checkpoint(paths.checkpoints("small", run) / f"seed{seed}.pt") for seed in (0, 1))
    assert (
        first.complete
        and first.identity["images"] == 3
        and first.losses.isfinite().all()
        and not torch.equal(first.losses, second.losses)
    )


def test_a_named_grouping_leaves_extra_images_out(with_hed, grouped):
    profile = yaml.safe_load(paths.profile_file("small").read_text())
    with_counted_runs(with_hed, {key: profile[key] for key in ("groupings", "hed")})
    stages.prepare_data("small")
    stages.train_edge_network("small")
    assert "extra_images" not in stages.group("small", "hed") and len(grouped) == 6


def test_runs_of_other_profiles_are_left_out_in_one_line(counted):
    params = yaml.safe_load(paths.PARAMS.read_text())
    params["runs"]["ours-many"]["profiles"] = ["mini"]
    paths.PARAMS.write_text(yaml.safe_dump(params))
    assert "run 'ours-many' is left out of profile 'small': not in this profile" in line(
        stages.pretrain, "small", "ours-many"
    )
    assert unavailable(load_settings("small", "ours-many"), "ours-many") == NOT_IN_PROFILE
    assert unavailable(load_settings("small", "moco-many"), "moco-many") is None


def test_a_profile_says_why_it_goes_without_a_run_and_those_that_start_from_it(counted):
    with_counted_runs(counted, {"without": {"moco": "its images show one thing each"}})
    assert left_out("small", "moco") == left_out("small", "moco-e2e") == "its images show one thing each"
    assert left_out("small", "ours-many") is None


@pytest.mark.parametrize("profile", ["smoke", "quick", "mini", "photos", "paper"])
def test_profiles_go_without_listed_runs_only(profile):
    assert set(load_settings(profile).without) <= set(yaml.safe_load(paths.PARAMS.read_text())["trained"])


def test_images_that_no_trees_were_grown_for_are_one_line(counted):
    with_counted_runs(counted, {"data.extra": []})
    stages.prepare("small")
    told = line(stages.pretrain, "small", "ours-many")
    assert (
        "no region trees; list the run's own `data.pretrain` under 'data.extra'" in told
        and "dvc repro grouping@small" in told
    )


def test_a_run_on_a_real_data_set_that_is_missing_is_left_out_and_says_which(monkeypatch, tmp_path):
    monkeypatch.setenv("HGRL_DATA", str(tmp_path))
    assert left_out("paper", "ours-cns5") is None
    assert left_out("paper", "moco-imagenet") == "data set missing: ImageNet"
    (tmp_path / "ImageNet").mkdir()
    assert left_out("paper", "moco-imagenet") is None


def test_stand_ins_learn_from_a_share_of_the_images(counted):
    stages.prepare("small")
    # an eighth of 6
    assert len(stages.training_samples("small", load_settings("small", "ours-cns5-small"))) == 1
