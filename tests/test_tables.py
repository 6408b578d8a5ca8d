"""Tables: every row of the paper, its figure beside ours, nothing invented where nothing was run."""

import csv
import dataclasses
import io

import pytest

from hgrl.core.errors import InputError
from hgrl.core.experiment import NOT_IN_PROFILE, load_experiment
from hgrl.core.files import read_json, write_json
from hgrl.core.loading import load_yaml
from hgrl.core.paths import Files
from hgrl.evaluation.networks import NO_WEIGHTS, OTHER_NETWORK
from hgrl.reporting import tables
from hgrl.reporting.scores import write_summary
from hgrl.reporting.tables import EXTRA_NOT_RUN, INAPPLICABLE, NOT_RUN


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
    identity = {"paper": identity, "field": identity | {"j_mean_mean": 0.25}}
    score(experiment, {"random": probe, "ours-cns5": probe})
    write_json(experiment.files.metrics("retrieval"), {"ours-cns5-20": {"scenes": {"embedding": embedding}}})
    write_json(experiment.files.metrics("tracking"), {"identity": identity})
    describe(experiment, {"pretrain": 48})
    return experiment


def score(experiment, runs):
    write_json(experiment.files.metrics("probe"), runs)


def describe(experiment, images):
    sets = {name: {"files": count} for name, count in images.items()}
    frequency = {name: {"disc": 0.1} for name in experiment.settings.data.labelled}
    write_json(experiment.files.manifest, {"sets": sets, "class_frequency": frequency})


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
    assert row["linear_backbone_miou_mean"] == INAPPLICABLE  # this head was not read


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


def test_what_was_not_run_says_so_in_every_score(smoke, monkeypatch):
    monkeypatch.setenv("HGRL_DATA", "nowhere")
    rows = tables.table_rows(smoke, "table3")
    flow = next(row for row in rows if "FlowNet2" in row["method"])
    assert flow["paper_j_mean"] == 26.7
    told = ("pretraining_data", "epochs", "j_mean_mean", "j_mean_std", "field_f_mean_mean", "seeds")
    assert {flow[key] for key in told} == {NOT_RUN}
    assert by_run(rows, "raft")["j_mean_mean"] == NO_WEIGHTS


def test_rivals_that_were_not_run_say_so(smoke):
    rows = tables.table_rows(smoke, "table1")
    assert next(row for row in rows if row["method"] == "MoCo")["paper_miou"] == 65.53
    rivals = [row for row in rows if row["method"].startswith(("MoCo", "InstFeat", "SegSort", "DenseCL"))]
    told = {NOT_RUN, NOT_IN_PROFILE, EXTRA_NOT_RUN}
    assert len(rivals) == 14 and {row["miou_mean"] for row in rivals} == told
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
    assert row["linear_backbone_miou_mean"] == INAPPLICABLE


def test_what_supervision_and_other_data_read_is_said(smoke, tmp_path):
    describe(smoke, {"pretrain": 48, "labels": 24})
    linear = {"linear-backbone": {"miou_mean": 0.5, "miou_std": 0.0, "seeds": 3}}
    backbone = {"scenes": linear, "voc": linear}
    for run, told in (("supervised", "scenes, labels (24 images)"), ("imagenet", "ImageNet, labels")):
        score(smoke, {run: backbone})
        row = by_run(tables.table_rows(smoke, "table1"), run)
        stand_in = "" if run == "imagenet" else " (stand-in: supervised)"
        assert (row["method"], row["pretraining_data"]) == (f"ImageNet Pre-train{stand_in}", told)
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
    assert by_run(rows, "ours-many")["miou_mean"] == EXTRA_NOT_RUN
    photos = of_profile("photos", tmp_path)
    score(photos, {})
    assert by_run(tables.table_rows(photos, "table1"), "ours-many")["miou_mean"] == NOT_IN_PROFILE


def test_class_frequency_row_comes_from_the_data(smoke):
    row = tables.table_rows(smoke, "table2")[0]
    assert (row["method"], row["iou_disc"], row["paper_person"]) == ("Class frequency", "10.00", 25.41)


def test_files_hold_the_rows(smoke):
    files = tables.write_tables(smoke)
    names = {f"table{n}.{kind}" for n in (1, 2, 3) for kind in ("csv", "md")}
    assert {path.name for path in files} == {"summary.json", *names}
    text = next(path for path in files if path.name == "table3.csv").read_text()
    assert next(csv.DictReader(io.StringIO(text)))["j_mean_mean"] == "22.00"
    assert "25.00 ± 1.00" in next(path for path in files if path.name == "table1.md").read_text()


def test_a_row_of_the_extras_says_when_it_was_made_and_one_not_made_how_to(smoke):
    row = by_run(tables.table_rows(smoke, "table1"), "densecl")
    assert (row["miou_mean"], row["extras"]) == (EXTRA_NOT_RUN, INAPPLICABLE)
    head = {"miou_mean": 0.3, "miou_std": 0.02, "seeds": 2}
    files = smoke.files.extras
    further = {"scenes": {"linear-backbone": {"miou_mean": 0.2, "miou_std": 0.0, "seeds": 3}}}
    write_json(files.metrics("probe"), {"densecl": {"scenes": {"aspp-backbone": head}}, "ours-cns5": further})
    write_json(files.result("probe", "densecl.origin"), {"date": "2026-11-21"})
    rows = tables.table_rows(smoke, "table1")
    row = by_run(rows, "densecl")
    assert (row["miou_mean"], row["seeds"], row["extras"]) == ("30.00", 2, "2026-11-21")
    assert by_run(rows, "random")["extras"] == INAPPLICABLE
    # a run whose headline the plain run makes, and another head the extras
    row = by_run(rows, "ours-cns5")
    told = [row[name] for name in ("miou_mean", "linear_backbone_miou_mean", "extras")]
    assert told == ["25.00", "20.00", "further heads"]


def tracked(j, **beside):
    """One protocol's means of a run over three seeds."""
    figures = {
        f"{name}_{part}": 0.01 for name in ("f_mean", "j_recall", "j_decay") for part in ("mean", "std")
    }
    return figures | {"j_mean_mean": j, "j_mean_std": 0.02, "seeds": 3, **beside}


@pytest.fixture
def trackers(smoke):
    """Table 3 of three runs: identity, a backbone that learnt from videos, and an embedding."""
    lead = {"mean": 0.1, "low": -0.02, "high": 0.22, "won": 2, "of": 3}
    field = tracked(0.4, stride_mean=8.0, parameters_mean=12345.0, j_low=0.3, j_high=0.5, lead={"lab": lead})
    paper = tracked(0.35, stride_mean=8.0, parameters_mean=12345.0)
    fine = tracked(0.5, stride_mean=4.0)
    runs = {"crw": {"paper": paper, "field": field}, "ours-cns5": {"paper": fine, "field": fine}}
    identity = read_json(smoke.files.metrics("tracking"))
    write_json(smoke.files.metrics("tracking"), identity | runs)
    describe(smoke, {"pretrain": 48, "clips": 20})
    write_json(smoke.files.result("tracking", "crw.origin"), {
        "core_seconds": {"0": {"paper": 1.0, "field": 2.0}, "1": {"paper": 1.0, "field": 3.0}}
    })  # fmt: skip
    write_json(smoke.files.result("pretraining", "crw.origin"), {"core_seconds": {"0": 10.0, "1": 14.0}})
    write_json(
        smoke.files.result("pretraining", "ours-cns5.origin"), {"core_seconds": {"0": 10.0, "1": None}}
    )
    return smoke


def test_table_3_has_two_protocols_and_says_what_a_row_rests_on(trackers):
    rows = tables.table_rows(trackers, "table3")
    row = by_run(rows, "crw")
    assert (row["j_mean_mean"], row["field_j_mean_mean"], row["field_j_mean_std"]) == (
        "35.00",
        "40.00",
        "2.00",
    )
    assert row["pretraining_data"] == "videos of scenes (20 frames)"
    assert (row["stride"], row["parameters"], row["field_j_interval"]) == ("8", "12,345", "[30.0, 50.0]")
    assert (row["field_won_lab"], row["field_lead_lab"]) == ("2 of 3", "+10.0 [-2.0, 22.0]")
    assert row["won_lab"] == row["field_won_identity"] == row["j_interval"] == INAPPLICABLE
    assert (row["training_seconds"], row["tracking_seconds"]) == ("12.0", "2.5")
    summary = read_json(write_summary(trackers))["tracking"]["crw"]
    assert summary["field_j"] == {"mean": 40.0, "std": 2.0, "seeds": 3} and summary["j"]["mean"] == 35.0
    row = by_run(rows, "ours-cns5")  # trained in two parts, whose time nobody knows
    assert row["training_seconds"] == row["tracking_seconds"] == row["parameters"] == INAPPLICABLE


def test_table_3_in_markdown_is_two_narrow_tables_with_the_fine_grid_marked(trackers):
    tables.write_tables(trackers)
    page = (tables.table_file(trackers.files, "table3").with_suffix(".md")).read_text()
    scores, about = (part.splitlines() for part in page.split("What a row learnt from"))
    lines = {line.split("|")[2].strip(): line for line in scores if line.count("|") > 5}
    assert max(line.count("|") for line in (*scores, *about)) <= 13
    assert lines["ours-cns5"].startswith("| Ours *") and lines["crw"].startswith("| CRW  ")
    assert "J, as copied" in lines["run"] and "40.00 ± 2.00" in lines["crw"]
    assert "22.00 " in lines["identity"] and "±" not in lines["identity"]
    assert lines["mgpff"].count(NOT_RUN) == 1
    listed = [line.split("|")[1].strip() for line in about if line.startswith("|")]
    assert listed[2:] == ["identity", "ours-cns5", "crw"]


def test_a_tracker_says_what_kind_of_data_it_learnt_from(trackers, tmp_path):
    photos = of_profile("photos", tmp_path / "photos")
    describe(photos, {"pretrain": 100})
    told = {run: tables._pretraining(trackers, trackers.run(run))[0] for run in ("flownet", "mgpff", "raft")}
    assert told == {
        "flownet": "scenes (48 images, in motion)",
        "mgpff": "videos of scenes (10 frames)",
        "raft": "its authors' data",
    }
    stills, _ = tables._pretraining(photos, photos.run("crw"))
    assert stills.endswith("(100 images, in motion)") and "DAVIS" not in stills


@pytest.fixture
def photos(tmp_path):
    """Two labelled sets, and data sets that stand in for the paper's; some scores of each table."""
    experiment = of_profile("photos", tmp_path)
    told = {"ImageNet": "Imagenette", "COCO": "BSDS500"}
    settings = experiment.settings.model_copy(update={"stand_in": told})
    experiment = dataclasses.replace(experiment, settings=settings)
    head, layer = settings.probe.heads[0], settings.retrieval.layers[0]
    score(experiment, {"moco": read(head, msrc=0.3, voc=0.2), "supervised": read(head, msrc=0.3)})
    write_json(experiment.files.metrics("retrieval"), {"segsort": read(layer, msrc=0.1, voc=0.15)})
    lab = {"j_mean_mean": 0.4, "j_mean_std": 0.0, "f_mean_mean": 0.5, "f_mean_std": 0.0, "seeds": 1}
    write_json(experiment.files.metrics("tracking"), {"lab": {"paper": lab, "field": {}}})
    describe(experiment, {"pretrain": 48})
    return experiment


def test_a_stage_that_was_not_made_has_rows_that_say_so_and_a_profile_without_any_no_tables(photos):
    photos.files.metrics("retrieval").unlink()
    row = by_run(tables.table_rows(photos, "table2"), "segsort")
    assert row["miou_mean"] == row["voc_miou_mean"] == NOT_RUN
    assert (
        len(tables.write_tables(photos)) == 7 and read_json(photos.files.results / "summary.json")["tracking"]
    )
    for stage in ("probe", "tracking"):
        photos.files.metrics(stage).unlink()
    with pytest.raises(InputError, match=r"probe.json: no scores of this profile; run `dvc repro`"):
        tables.write_tables(photos)


def read(layer, **mious):
    figures = {"miou_std": 0.01, "seeds": 3, "iou": {"cat_mean": 0.02, "sky_mean": 0.5, "seeds": 3}}
    return {name: {layer: {**figures, "miou_mean": miou}} for name, miou in mious.items()}


def test_the_first_set_is_the_headline_and_each_other_has_a_column(photos):
    for name, run, figures in (
        ("table1", "moco", ("30.00", "20.00")),
        ("table2", "segsort", ("10.00", "15.00")),
    ):
        row = by_run(tables.table_rows(photos, name), run)
        assert (row["miou_mean"], row["voc_miou_mean"]) == figures and "msrc_miou_mean" not in row
        assert (row["iou_cat"], row["stand_in"]) == ("2.00", "BSDS500 for COCO")
    row = by_run(tables.table_rows(photos, "table3"), "lab")
    assert (row["j_mean_mean"], row["field_j_mean_mean"]) == ("40.00", INAPPLICABLE)


def test_the_summary_gathers_the_headlines_by_set(photos):
    summary = read_json(write_summary(photos))
    miou = {"mean": 30.0, "std": 1.0, "seeds": 3}
    assert summary["probe"]["msrc"]["moco"] == {"miou": miou, "lowest_class_iou": 2.0}
    assert summary["probe"]["voc"] == {"moco": {"miou": {**miou, "mean": 20.0}, "lowest_class_iou": 2.0}}
    assert summary["retrieval"]["voc"] == {"segsort": {"miou": {**miou, "mean": 15.0}}}
    tracked = {"j": {"mean": 40.0, "std": 0.0, "seeds": 1}, "f": {"mean": 50.0, "std": 0.0, "seeds": 1}}
    assert summary["tracking"] == {"lab": tracked}


def test_every_row_on_another_data_set_says_what_stands_in(photos):
    rows = tables.table_rows(photos, "table1")
    told = {(row["method"], row["paper_epochs"]): row["stand_in"] for row in rows}
    assert told["ImageNet Pre-train (stand-in: supervised)", "-"] == "Imagenette for ImageNet"
    assert told["MoCo", 80] == told["Ours", 140] == "BSDS500 for COCO"
    assert [row["stand_in"] for row in rows[3:6]] == ["Imagenette for ImageNet"] * 3
    assert told["Random Init", "-"] == told["MoCo", 400] == INAPPLICABLE


def test_a_row_tells_the_reading_that_it_has(smoke):
    def told(reading):
        return tables._with_reading("SegSort", {"reading": reading}, smoke.run("segsort"))

    assert told("methods.segsort.clusters") == "SegSort (clusters: 3)"
    assert told("methods.segsort.unset") == "SegSort"
