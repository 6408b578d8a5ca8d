"""The profile `paper`: its numbers are the paper's, and its whole pipeline runs, with its own loaders, on the
data sets in miniature.
"""

import re
import shutil
import subprocess
import sys
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
import yaml
from miniature import write_coco, write_davis, write_sbd, write_voc

from hgrl import __main__ as cli
from hgrl.core import paths
from hgrl.core.experiment import load_experiment
from hgrl.core.settings import Settings
from hgrl.data.fetching import survey as check
from hgrl.data.stage import prepare_data
from hgrl.evaluation import trials
from hgrl.evaluation.stage import evaluate
from hgrl.grouping.region_tree import RegionTree
from hgrl.grouping.stage import group
from hgrl.pretraining.stage import pretrain, training_samples
from hgrl.reporting.tables import write_tables

REPOSITORY = Path(__file__).resolve().parents[1]
PROFILE = yaml.safe_load((REPOSITORY / "profiles/paper.yaml").read_text())
VOC_TRAIN_AUG = {"kind": "voc", "folder": "VOC2012", "split": "train_aug"}

# Written from the paper's text, section by section.
SECTION_4 = {
    # 4.1: "the union of"
    "data.pretrain": [VOC_TRAIN_AUG, {"kind": "coco", "folder": "coco", "split": "train2014"}],
    "data.labelled": {
        "voc": {"train": VOC_TRAIN_AUG, "val": {"kind": "voc", "folder": "VOC2012", "split": "val"}}
    },
    "data.videos": {"kind": "davis", "folder": "DAVIS", "split": "val"},
    "grouping.spectral": True,
    "grouping.max_regions": 40,
    "network.backbone": "resnet50",  # 4.2, network design
    "network.width": 64,
    "network.hypercolumn_stages": [2, 3],
    "network.hypercolumn_channels": 256,
    "network.embedding_dim": 32,
    "augment.crop_size": 224,  # 4.2, training
    "sampling.anchors": 7,
    "sampling.positives": 10,
    "sampling.negatives": 5,
    "sampling.sigma_p": 0.8,
    "objective.form": "ratio",
    "objective.temperature": 1.0,
    "pretrain.epochs": 80,
    "pretrain.batch": 70,
    "pretrain.lr": 0.01,
    "pretrain.schedule": "step",
    "pretrain.milestones": [25 / 80, 45 / 80, 60 / 80],
    "pretrain.decay": 0.1,
    "probe.iterations": 20_000,  # 4.2, fine-tuning
    "probe.milestones": [10 / 20, 15 / 20],
    "probe.batch": 20,
    "probe.lr": 0.03,
    "probe.momentum": 0.9,
    "probe.weight_decay": 5e-4,
    "probe.crop_size": 384,
    "probe.crops": True,
    "retrieval.segments": 15,  # 5.2
    "tracking.paper.previous_frames": 2,  # 5.3
    "tracking.paper.neighbours": 10,
}
COUNTS = {
    ("VOC2012", "train"): 1464,
    ("VOC2012", "val"): 1449,
    ("VOC2012", "train_aug"): 10582,
    ("coco", "train2014"): 82783,
}


@pytest.mark.parametrize("dotted", SECTION_4)
def test_every_number_of_the_paper_stands_in_the_profile(dotted):
    assert reduce(dict.__getitem__, dotted.split("."), PROFILE) == SECTION_4[dotted]


def test_the_profile_spells_out_the_defaults_and_adds_imagenet_and_the_papers_own_readings():
    """ImageNet has no place among the defaults: the other profiles would look for it."""
    extra = {
        "data": {"extra": [{"kind": "imagenet", "folder": "ImageNet", "split": "train"}]},
        "sampling": {"anchor_choice": "random"},  # docs/fidelity.md
        "augment": {"views": "one"},
        "tuned": PROFILE["tuned"],  # the rivals': below
    }
    assert Settings.model_validate(PROFILE) == Settings.model_validate(extra)


# Written from the authors' code: optimiser, rate, batch, weight decay
RIVALS = {
    "moco": ("sgd", 0.03, 256, 1e-4),
    "instfeat": ("sgd", 0.03, 128, 5e-4),
    "densecl": ("sgd", 0.3, 256, 1e-4),  # for COCO
    "hsg": ("sgd", 0.1 / 4, 128 // 4, 1e-4),  # for COCO; a quarter of the batch
    "segsort": ("sgd", 1e-2, 8, 5e-4),  # section 5.1: the paper's rate
    "hierarchical": ("adam", 1e-2, 70, 0.0),  # the paper's own
    "hierarchical-image": ("sgd", 0.03, 256, 1e-4),  # "on top of MoCo"
}


@pytest.mark.parametrize("method", RIVALS)
def test_each_rival_is_trained_by_its_authors_numbers_and_ours_by_the_papers(method):
    experiment = load_experiment("paper")
    own = experiment.settings_with(experiment.settings.tuned.get(method)).pretrain
    assert (own.optimizer, own.lr, own.batch, own.weight_decay, own.momentum) == (*RIVALS[method], 0.9)
    assert own.epochs == 80


def test_the_head_of_the_paper_is_probed_first():
    assert PROFILE["probe"]["heads"][0] == "aspp-backbone"


def test_the_papers_counts_are_those_that_are_checked(tmp_path):
    splits = [row.split for row in check.survey(tmp_path, Settings())]
    assert {
        (split.folder, split.name): split.count for split in splits if split.folder in ("VOC2012", "coco")
    } == COUNTS


SIZES = {  # the only things that the run below changes: sizes, lengths, and where it computes
    "seeds": [0],
    "device": "cpu",
    "network": {"backbone": "resnet50", "width": 4, "hypercolumn_channels": 8},
    "augment": {"crop_size": 32},
    "pretrain": {"epochs": 2, "batch": 4, "workers": 0},
    "probe": {
        "iterations": 3,
        "end_to_end": {"iterations": 2},
        "batch": 4,
        "crop_size": 64,
        "head_channels": 8,
    },
    "retrieval": {"kmeans_iterations": 2},
    "tracking": {"short_side": 64},
    "ablation": {"seeds": [0], "epochs": 1, "iterations": 2},
}
PARAMS = {
    "profile": "paper",
    "trained": ["ours-cns5"],
    "probe": ["random", "random-e2e", "ours-cns5"],
    "retrieval": ["lab", "ours-cns5"],
    "tracking": ["identity", "ours-cns5"],
    "sweep": {"cns": [5], "sigma_p": [0.4]},
    "ablations": {"log": {"objective.form": "log"}},
}


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    """A home whose profile `paper` is the repository's at small sizes, with the data in miniature."""
    home = tmp_path_factory.mktemp("paper")
    masks = write_voc(
        home / "data", ["2007_a", "2009_b", "2009_h"], ["2007_c", "2010_d"], ["2008_e", "2011_f", "2011_g"]
    )
    write_sbd(home / "data", masks, ["2008_e", "2007_c", "2011_f"], ["2009_b", "2010_d", "2011_g"])
    write_coco(home / "data")
    write_davis(home / "data", ["bear"], ["camel", "dogs"])
    profile = {
        section: {**values, **SIZES.get(section, {})} if isinstance(values, dict) else values
        for section, values in PROFILE.items()
    }
    profile |= {key: value for key, value in SIZES.items() if not isinstance(value, dict)}
    shutil.copytree(REPOSITORY / "profiles", home / "profiles")
    (home / "profiles/paper.yaml").write_text(yaml.safe_dump(profile))
    runs = yaml.safe_load((REPOSITORY / "params.yaml").read_text())["runs"]
    (home / "params.yaml").write_text(yaml.safe_dump({**PARAMS, "runs": runs}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "HOME", home)
        patch.setattr(paths, "PARAMS", home / "params.yaml")
        patch.setenv("HGRL_DATA", str(home / "data"))
        yield home


def test_only_sizes_are_reduced():
    changed = {
        f"{section}.{key}" for section, values in SIZES.items() if isinstance(values, dict) for key in values
    }
    kept = set(SECTION_4) - changed
    assert changed & set(SECTION_4) == {
        "network.backbone", "network.width", "network.hypercolumn_channels", "augment.crop_size",
        "pretrain.epochs", "pretrain.batch",
        "probe.iterations", "probe.batch", "probe.crop_size",
    }  # fmt: skip
    assert (
        SIZES["network"]["backbone"] == "resnet50"
        and {"data.pretrain", "grouping.spectral", "objective.form", "sampling.anchors"} <= kept
    )


def test_the_whole_pipeline_runs_on_the_data_sets_in_miniature(paper, capsys):
    experiment = load_experiment("paper")
    manifest = prepare_data(experiment)
    assert {name: found["files"] for name, found in manifest["sets"].items()} == {
        "pretrain": 9,
        "voc.train": 6,
        "voc.val": 2,
        "labels": 6,
        "videos": 8,
    }

    summary = group(experiment)
    assert summary["images"] == 9 and not summary["failures"] and summary["regions"]["max"] <= 40
    names = training_samples(experiment, experiment.settings).names
    assert {name.split("/")[0] for name in names} == {"VOC2012", "coco"}
    assert not {"VOC2012/2007_c", "VOC2012/2010_d"} & set(names)  # VOC's val, though SBD lists it
    assert all(RegionTree.load(experiment.files.tree_file(name)).regions > 1 for name in names)

    (checkpoint,) = pretrain(experiment, experiment.run("ours-cns5"))
    assert checkpoint.complete and np.isfinite(checkpoint.losses.numpy()).all()

    for stage, runs in (
        ("probe", PARAMS["probe"]),
        ("retrieval", PARAMS["retrieval"]),
        ("tracking", PARAMS["tracking"]),
    ):
        scores = evaluate(stage, experiment)
        assert list(scores) == runs and all(
            np.isfinite(numbers(found)).all() and numbers(found) for found in scores.values()
        )
    # DAVIS's val, the stage evaluated last
    assert set(scores["identity"][0]["paper"]["sequences"]) == {"camel", "dogs"}

    trials.sweep(experiment)
    trials.ablate(experiment)
    write_tables(experiment)
    assert {path.name for path in (paper / "results/paper/tables").iterdir()} >= {
        "table1.md",
        "table2.md",
        "table3.md",
    }


def numbers(scores):
    """All numbers of nested dicts and lists."""
    if isinstance(scores, dict | list):
        return [
            number
            for value in (scores.values() if isinstance(scores, dict) else scores)
            for number in numbers(value)
        ]
    return [scores] if isinstance(scores, int | float) and not isinstance(scores, bool) else []


def test_check_data_counts_the_miniature_and_misses_the_rest(paper, capsys):
    assert cli.main(["check-data"]) == 1
    lines = {
        " ".join(line.split()[:3]): line.split()
        for line in capsys.readouterr().out.splitlines()
        if line[:3] in ("voc", "sbd", "coc", "dav")
    }
    assert lines["sbd train_aug images"][3:6] == ["incomplete", "6", "10,582"]
    assert lines["voc2012 val images"][3:6] == ["incomplete", "2", "1,449"]
    assert lines["davis2017 val videos"][3:6] == ["incomplete", "2", "30"]
    assert cli.main(["check-data", "--allow-partial"]) == 0


def test_dvc_plans_every_stage_of_the_profile(tmp_path):
    """In a bare copy of the repository, with the profile switched to `paper`. Without `--force` DVC looks for
    each stage's inputs, which nothing has made yet (its issue 9021)."""
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    for name in ("profiles", "hgrl", "notebooks"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    text = (tmp_path / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(
        re.sub(r"^profile: \w+", "profile: paper", text, flags=re.MULTILINE)
    )
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "--no-scm", "--quiet"], cwd=tmp_path, check=True)
    done = subprocess.run([*dvc, "repro", "--dry", "--force"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    planned = re.findall(r"^> python -m hgrl (.*)$", done.stdout, re.MULTILINE)
    params = yaml.safe_load(text)
    expected = [
        "data paper",
        "notebook 01_grouping paper",
        "notebook 02_sampling paper",
        "tables paper",
        "notebook 07_ablations paper",
    ]
    expected += ["claims paper"]
    expected += [f"notebook 03_pretraining paper --run {run}" for run in params["trained"]]
    expected += [
        "train-hed paper",
        "trees paper --grouping hed",
        *(f"notebook 03_pretraining paper --run {run}" for run in params["trained_hed"]),
    ]
    expected += [f"notebook {name} paper --runs all" for name in ("04_probe", "05_retrieval", "06_tracking")]
    assert sorted(planned) == sorted(expected)
