"""Tables: every row of the paper, its figure beside ours, nothing invented where nothing was run."""

import csv
import dataclasses
import io

import pytest

from hgrl.core.experiment import NOT_IN_PROFILE, load_experiment
from hgrl.core.files import read_json, write_json
from hgrl.core.loading import load_yaml
from hgrl.core.paths import Files
from hgrl.evaluation.networks import NO_WEIGHTS, OTHER_NETWORK
from hgrl.reporting import tables
from hgrl.reporting.tables import INAPPLICABLE, NOT_RUN, PAPER_ONLY


def of_profile(profile, home):
    """A profile of this repository, whose artefacts and results lie in another folder."""
    return dataclasses.replace(load_experiment(profile), files=Files(profile, home))


@pytest.fixture
def smoke(tmp_path):
    """Scores of two runs of table 1 and one of table 2 and 3."""
    experiment = of_profile("smoke", tmp_path)
    head = {"miou_mean": 0.25, "miou_std": 0.01, "pixel_accuracy_mean": 0.8, "pixel_accuracy_std": 0.0}
    head |= {"seeds": 3, "iou": {"disc_mean": 0.5, "disc_std": 0.1, "seeds": 3}}
    probe = {"scenes": {"aspp-backbone": head}}
    embedding = {"miou_mean": 0.125, "miou_std": 0.0, "seeds": 3}
    identity = {"j_mean_mean": 0.22, "j_mean_std": 0.0, "f_mean_mean": 0.3, "f_mean_std": 0.0, "seeds": 1}
    score(experiment, {"random": probe, "ours-cns5": probe})
    write_json(experiment.files.metrics("retrieval"), {"ours-cns5-20": {"scenes": {"embedding": embedding}}})
    write_json(experiment.files.metrics("tracking"), {"identity": identity})
    describe(experiment, {"pretrain": 48})
    return experiment


def score(experiment, runs):
    write_json(experiment.files.metrics("probe"), runs)


def describe(experiment, images):
    sets = {name: {"files": count} for name, count in images.items()}
    write_json(experiment.files.manifest, {"sets": sets, "class_frequency": {"scenes": {"disc": 0.1}}})


def by_run(rows, run):
    return next(row for row in rows if row["run"] == run)


def test_one_row_for_each_of_the_papers_in_its_order(smoke):
    for name in tables.STAGES:
        paper = load_yaml(tables.ROWS)[name]["paper"]
        rows = tables.table_rows(smoke, name)
        assert [row["method"] for row in rows[: len(paper)]] == [row["method"] for row in paper]
        assert len({tuple(row) for row in rows}) == 1  # the same columns in every row


def test_scores_are_percent_with_deviation_and_seeds_beside_the_papers(smoke):
    row = by_run(tables.table_rows(smoke, "table1"), "ours-cns5")
    assert (row["miou_mean"], row["miou_std"], row["seeds"], row["iou_disc"]) == ("25.00", "1.00", 3, "50.00")
    assert (row["paper_miou"], row["paper_epochs"], row["epochs"], row["cns"]) == (
        45.57,
        80,
        2,
        "Pixel (cns=5)",
    )
    assert row["pretraining_data"] == "scenes (48 images)"
    assert row["linear_miou_mean"] == INAPPLICABLE  # this head was not read


@pytest.mark.parametrize("trunk", ["from scratch", "ImageNet weights vgg16.pth (sha256 0123456789abcdef)"])
def test_the_row_over_hed_edges_says_where_the_trunk_began(smoke, trunk):
    write_json(smoke.files.result("hed", "hed"), {"trunk": trunk})
    probe = read_json(smoke.files.metrics("probe"))
    score(smoke, {**probe, "ours-hed": probe["ours-cns5"]})
    row = by_run(tables.table_rows(smoke, "table1"), "ours-hed")
    assert row["pretraining_data"] == f"scenes (48 images; HED edges, trunk {trunk})"
    assert (row["method"], row["cns"], row["paper_miou"], row["paper_epochs"], row["miou_mean"]) == (
        "Ours (HED)",
        "Pixel (cns=5,20)",
        48.82,
        80,
        "25.00",
    )


def test_only_tables_by_class_have_class_columns(smoke):
    assert "iou_disc" in tables.table_rows(smoke, "table1")[0]
    assert not [column for column in tables.table_rows(smoke, "table3")[0] if column.startswith("iou_")]


def test_what_has_no_run_says_so_in_every_score(smoke):
    rows = tables.table_rows(smoke, "table3")
    flow = next(row for row in rows if row["method"] == "FlowNet2")
    assert flow["paper_j_mean"] == 26.7
    assert {flow[key] for key in ("pretraining_data", "epochs", "j_mean_mean", "j_mean_std", "seeds")} == {
        PAPER_ONLY
    }
    assert by_run(rows, "ours-cns0")["j_mean_mean"] == NOT_RUN


def test_rivals_that_were_not_run_say_so(smoke):
    rows = tables.table_rows(smoke, "table1")
    assert next(row for row in rows if row["method"] == "MoCo")["paper_miou"] == 65.53
    rivals = [
        row
        for row in rows
        if row["method"].startswith(("MoCo", "InstFeat", "SegSort", "DenseCL", "Image labels"))
    ]
    assert len(rivals) == 15 and {row["miou_mean"] for row in rivals} == {NOT_RUN, NOT_IN_PROFILE}
    assert by_run(tables.table_rows(smoke, "table2"), "segsort")["miou_mean"] == NOT_RUN


def test_imagenets_row_says_what_is_missing(smoke, tmp_path, monkeypatch):
    monkeypatch.setenv("HGRL_DATA", str(tmp_path / "nothing"))
    assert by_run(tables.table_rows(smoke, "table1"), "imagenet")["miou_mean"] == OTHER_NETWORK
    paper = of_profile("paper", tmp_path)
    score(paper, {})
    row = by_run(tables.table_rows(paper, "table1"), "imagenet")
    assert row["miou_mean"] == row["pretraining_data"] == NO_WEIGHTS and row["paper_miou"] == 70.54
    path = tmp_path / "nothing" / paper.definitions["imagenet"].weights
    path.parent.mkdir(parents=True)
    path.touch()
    assert by_run(tables.table_rows(paper, "table1"), "imagenet")["miou_mean"] == NOT_RUN


def test_rows_end_to_end_read_their_own_head_and_the_data_of_the_run_they_start_from(smoke):
    fcn = {"miou_mean": 0.5, "miou_std": 0.0, "seeds": 3, "iou": {"disc_mean": 0.25, "seeds": 3}}
    score(smoke, {"moco-long-e2e": {"scenes": {"fcn-backbone": fcn}}})
    row = by_run(tables.table_rows(smoke, "table1"), "moco-long-e2e")
    assert (row["miou_mean"], row["iou_disc"], row["seeds"], row["paper_miou"]) == ("50.00", "25.00", 3, 55.0)
    assert (row["pretraining_data"], row["epochs"]) == ("scenes (48 images)", 5)  # 2.5 times smoke's 2
    assert row["linear_miou_mean"] == INAPPLICABLE


def test_what_supervision_and_other_data_read_is_said(smoke, tmp_path):
    describe(smoke, {"pretrain": 48, "labels": 24})
    backbone = {"linear-backbone": {"miou_mean": 0.5, "miou_std": 0.0, "seeds": 3}}
    score(smoke, dict.fromkeys(("supervised", "imagenet"), backbone))
    rows = tables.table_rows(smoke, "table1")
    assert by_run(rows, "supervised")["pretraining_data"] == "scenes, labels (24 images)"
    assert by_run(rows, "imagenet")["pretraining_data"] == "ImageNet, labels"
    paper = of_profile("paper", tmp_path)
    describe(paper, {"pretrain": 48, "labels": 24})
    score(paper, dict.fromkeys(("moco", "moco-pascal"), backbone))
    rows = tables.table_rows(paper, "table1")
    shown = [
        [by_run(rows, run)[key] for key in ("pretraining_data", "epochs")] for run in ("moco", "moco-pascal")
    ]
    assert shown == [["VOC2012 + coco (48 images)", 80], ["VOC2012", 400]]


def test_a_stand_in_shows_where_the_papers_run_was_not_scored_and_says_so(smoke):
    probe = read_json(smoke.files.metrics("probe"))["random"]
    score(smoke, {"moco-small": probe})
    rows = tables.table_rows(smoke, "table1")
    row = by_run(rows, "moco-small")
    assert (row["method"], row["miou_mean"], row["paper_miou"], row["paper_epochs"]) == (
        "MoCo (stand-in: moco-small)",
        "25.00",
        32.04,
        400,
    )
    # an eighth of 48; 5 times smoke's 2
    assert (row["pretraining_data"], row["epochs"]) == ("scenes (6 images)", 10)
    other = by_run(rows, "ours-cns5-pascal")
    assert (other["method"], other["miou_mean"]) == ("Ours", NOT_IN_PROFILE)
    score(smoke, {"moco-small": probe, "moco-pascal": probe})
    row = by_run(tables.table_rows(smoke, "table1"), "moco-pascal")
    assert (row["method"], row["miou_mean"]) == ("MoCo", "25.00")


def test_runs_on_counted_scenes_name_their_split_and_its_images(smoke, tmp_path):
    probe = read_json(smoke.files.metrics("probe"))["random"]
    score(smoke, {"moco-many": probe, "ours-single": probe})
    describe(smoke, {"pretrain": 48, "VOC2012/single": 23, "VOC2012/many": 24})
    rows = tables.table_rows(smoke, "table1")
    assert by_run(rows, "moco-many")["pretraining_data"] == "scenes: many (24 images)"
    assert by_run(rows, "ours-single")["pretraining_data"] == "scenes: single (23 images)"
    assert by_run(rows, "ours-many")["miou_mean"] == NOT_RUN
    photos = of_profile("photos", tmp_path)
    score(photos, {})
    assert by_run(tables.table_rows(photos, "table1"), "ours-many")["miou_mean"] == NOT_IN_PROFILE


def test_class_frequency_row_comes_from_the_data(smoke):
    row = tables.table_rows(smoke, "table2")[0]
    assert (row["method"], row["iou_disc"], row["paper_person"]) == ("Class frequency", "10.00", 25.41)


def test_files_hold_the_rows(smoke):
    files = tables.write_tables(smoke)
    assert {path.name for path in files} == {f"table{n}.{kind}" for n in (1, 2, 3) for kind in ("csv", "md")}
    text = next(path for path in files if path.name == "table3.csv").read_text()
    assert next(csv.DictReader(io.StringIO(text)))["j_mean_mean"] == "22.00"
    assert "25.00 ± 1.00" in next(path for path in files if path.name == "table1.md").read_text()
