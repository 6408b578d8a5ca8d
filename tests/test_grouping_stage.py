"""The stages `hed` and `grouping`: trees are grown once, kept, and grown anew when what made them has
changed."""

import json
import shutil

from conftest import ages, change_profile, told, write_profile

from hgrl.data.stage import prepare_data
from hgrl.grouping.region_tree import RegionTree
from hgrl.grouping.stage import auto_height_scale, group, is_grouped, train_edge_network
from hgrl.pretraining.stage import pretrain, training_samples


def first_image(files):
    return sorted((files.data / "VOC2012/JPEGImages").glob("unlabelled_*.jpg"))[0]


def test_trees_are_grown_once_and_their_summary_is_equal_when_made_again(experiment, grouped):
    files = experiment().files
    trees, summary = ages(files.trees() / "VOC2012"), files.result("grouping", "trees")
    before = summary.read_bytes()
    answer = group(experiment())
    assert len(trees) == 6 and grouped == [] and ages(files.trees() / "VOC2012") == trees
    assert summary.read_bytes() == before
    assert answer["images"] == 6 and answer["failures"] == {}
    assert answer["height_scale"] == auto_height_scale(experiment())
    origin = json.loads(summary.with_suffix(".origin.json").read_text())
    assert origin["settings"]["image_scale"] == 2.0 and "versions" in origin and "seconds" in origin


def test_a_lost_tree_is_grown_again_alone(experiment, grouped):
    lost = sorted((experiment().files.trees() / "VOC2012").glob("*.npz"))[3]
    before = lost.read_bytes()
    lost.unlink()
    group(experiment())
    assert len(grouped) == 1
    assert lost.read_bytes() == before


def test_trees_of_other_settings_are_grown_anew(pipeline, experiment, grouped):
    assert is_grouped(experiment())
    write_profile(pipeline, {"grouping.image_scale": 1.0})
    assert not is_grouped(experiment())
    group(experiment())
    assert len(grouped) == 6 and is_grouped(experiment())


def test_an_unreadable_image_is_listed_and_the_rest_is_grouped_and_trained(experiment, steps):
    small = experiment()
    image = first_image(small.files)
    image.write_bytes(image.read_bytes()[:300])
    shutil.rmtree(small.files.trees())
    shutil.rmtree(small.files.checkpoints("ours"))
    summary = group(small)
    assert summary["images"] == 5
    ((name, message),) = summary["failures"].items()
    assert name == f"VOC2012/{image.stem}" and str(image) in message and "\n" not in message
    written = json.loads(small.files.result("grouping", "trees").read_text())
    assert written["failures"] == summary["failures"]
    assert name not in training_samples(small, small.settings).names
    first, _ = pretrain(small, small.run("ours"))
    assert first.identity["images"] == 5 and len(steps) == 2 * first.total_steps


def test_a_set_without_one_readable_image_is_one_line(experiment):
    files = experiment().files
    for image in (files.data / "VOC2012/JPEGImages").glob("unlabelled_*.jpg"):
        image.write_bytes(b"no image")
    shutil.rmtree(files.trees())
    line = told(group, experiment())
    assert f"none of the 6 pretraining images could be grouped; the first: {first_image(files)}" in line


def test_a_missing_data_root_is_one_line_with_the_path_and_the_variable(pipeline, experiment, monkeypatch):
    write_profile(pipeline, {"data.scenes": None})
    monkeypatch.setenv("HGRL_DATA", str(pipeline / "nowhere"))
    line = told(group, experiment())
    assert str(pipeline / "nowhere") in line and "HGRL_DATA" in line


# Trees of a named grouping


def test_named_trees_have_a_folder_a_scale_and_a_result_of_their_own(with_hed, experiment):
    plain = ages(experiment().files.trees())
    train_edge_network(experiment())
    group(experiment(), "hed")
    small = experiment()
    assert ages(small.files.trees()) == plain
    assert len(list((small.files.trees("hed") / "VOC2012").glob("*.npz"))) == 6
    assert auto_height_scale(small) != auto_height_scale(small, "hed")
    summary = json.loads(small.files.result("hed", "hed").read_text())
    assert summary["trunk"] == "from scratch" and summary["images"] == 4 and summary["iterations"] == 3
    assert json.loads(small.files.result("grouping", "trees-hed").read_text())["images"] == 6
    origin = json.loads((small.files.results / "grouping/trees-hed.origin.json").read_text())
    assert origin["settings"]["edges"] == "hed" and origin["settings"]["image_scale"] == 1.0


def test_trees_of_another_edge_network_are_grown_anew_and_so_is_the_network_of_other_settings(
    with_hed, experiment, grouped, capsys
):
    train_edge_network(experiment())
    group(experiment(), "hed")
    files = experiment().files
    weights, origin = files.hed_weights, files.results / "hed/hed.origin.json"
    before = weights.read_bytes(), origin.read_bytes()
    train_edge_network(experiment())
    message = "a trained network stays, and so does the time it took"
    assert (weights.read_bytes(), origin.read_bytes()) == before, message
    change_profile(with_hed, {"hed.seed": 1})
    grouped.clear()
    train_edge_network(experiment())
    assert "trained anew, because these changed: seed" in capsys.readouterr().out
    assert weights.read_bytes() != before[0]
    group(experiment(), "hed")
    assert len(grouped) == 6


def test_a_missing_edge_network_says_what_to_run(with_hed, experiment):
    line = told(group, experiment(), "hed")
    assert "hed.pt: no trained edge network; run `dvc repro hed@small` first" in line


def test_an_unknown_grouping_is_one_line_that_names_the_known_ones(with_hed, experiment):
    assert "no grouping named 'head'; choose one of 'groupings': hed" in told(group, experiment(), "head")


def test_a_mistyped_setting_of_a_grouping_is_one_line(with_hed, experiment):
    change_profile(with_hed, {"groupings.hed.edgs": "hed"})
    line = told(experiment().run, "ours-hed")
    assert "groupings.hed: unknown setting 'grouping.edgs'" in line


# Trees of `data.extra`, beside the profile's own


def test_trees_of_extra_images_are_grown_beside_the_own_and_do_not_move_the_scale(
    counted, experiment, grouped
):
    folder, scale = experiment().files.trees() / "VOC2012", auto_height_scale(experiment())
    own = {path.name: path.read_bytes() for path in folder.glob("*.npz")}
    sets = {name: found["files"] for name, found in prepare_data(experiment())["sets"].items()}
    assert (sets["pretrain"], sets["VOC2012/single"], sets["VOC2012/many"]) == (6, 3, 3)
    summary = group(experiment())
    assert summary["images"] == 6 and summary["extra_images"] == 6
    assert auto_height_scale(experiment()) == summary["height_scale"] == scale
    labels = {name: RegionTree.load(folder / name).labels for name in own}
    assert len(list(folder.glob("*.npz"))) == 12 and len(labels) == 6
    grouped.clear()
    group(experiment())
    assert grouped == []
    (folder / "many_00001.npz").unlink()
    group(experiment())
    assert len(grouped) == 1


def test_a_named_grouping_leaves_extra_images_out(with_hed, counted, experiment, grouped):
    prepare_data(experiment())
    train_edge_network(experiment())
    assert "extra_images" not in group(experiment(), "hed") and len(grouped) == 6
