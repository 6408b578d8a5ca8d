"""A data set of one's own: the YAML of docs/your-data.md, and a folder with what real sets bring."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import SMALL, told
from miniature import put, scene
from PIL import Image

from hgrl.core.errors import InputError
from hgrl.core.experiment import load_experiment
from hgrl.core.notebook import run_notebook
from hgrl.data.fetching.survey import survey
from hgrl.data.scenes.files import palette_png
from hgrl.data.sources import open_videos
from hgrl.data.stage import prepare_data
from hgrl.evaluation.stage import evaluate
from hgrl.pretraining.stage import prepare, pretrain, training_samples

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs/your-data.md"
TRAIN = ["a 1.JPG", "a 2.jpg", "b.png", "c.jpeg", "d.PNG", "e.jpg"]
VAL = ["v1.jpg", "v2.png"]
CLASSES = ("soil", "leaf", "flower")


def lists(root, **splits):
    for split, lines in splits.items():
        put(root / "Garden/ImageSets/Segmentation" / f"{split}.txt", "\r\n".join(lines) + "\r\n")


@pytest.fixture
def garden(pipeline, monkeypatch):
    """The data root; images of mixed sizes, masks in palettes and in grey, 9 for void; profile `garden`."""
    root, random = pipeline / "own", np.random.default_rng(0)
    for number, name in enumerate([*TRAIN, *VAL]):
        image, mask = scene(random, 40 + 8 * (number % 3), 64 - 8 * (number % 2), [1, 2])
        mask[:2] = 255 if number % 2 else 9
        put(root / "Garden/JPEGImages" / name, image)
        masks = root / "Garden/SegmentationClass"
        put(masks / f"{Path(name).stem}.{'PNG' if number % 3 else 'png'}", palette_png(mask))
        if number % 2:
            Image.fromarray(mask).save(next(masks.glob(f"{Path(name).stem}.*")))
    lists(root, train=[Path(name).stem for name in TRAIN], val=VAL)
    put(root / "Garden/classes.txt", "soil\r\nleaf\r\nflower\r\n4\r\n5\r\n6\r\n7\r\n8\r\n9\r\nvoid\r\n")
    monkeypatch.setenv("HGRL_DATA", str(root))
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(block.splitlines()) == 6
    write(pipeline, yaml.safe_load(block)["data"])
    return root


def write(home, data):
    """Profile `garden`: short, and scored on three of the ten classes."""
    for source in data["labelled"]["garden"].values():
        source["classes"] = list(CLASSES)
    profile = SMALL | {"data": data | {"short_side": 48}}
    profile["probe"] = SMALL["probe"] | {"short_side": 48, "crops": True}
    (home / "profiles/garden.yaml").write_text(yaml.safe_dump(profile, sort_keys=False))


def test_a_folder_in_vocs_layout_is_pretrained_on_probed_and_retrieved_from(garden, pipeline):
    experiment = load_experiment("garden")
    manifest = prepare_data(experiment)
    counts = {name: found["files"] for name, found in manifest["sets"].items()}
    assert counts == {"pretrain": 6, "garden.train": 6, "garden.val": 2, "labels": 6, "videos": 0}
    assert list(manifest["class_frequency"]["garden"]) == list(CLASSES)
    rows = [row for row in survey(garden, experiment.settings) if row.name == "Garden"]
    assert [(row.split.name, row.status, row.found) for row in rows] == [
        ("train", "present", 6),
        ("val", "present", 2),
    ]
    assert training_samples(experiment, experiment.settings, "supervised").shown(0).tolist() == [1, 1, 1]

    prepare(experiment, "ours")
    assert all(checkpoint.complete for checkpoint in pretrain(experiment, experiment.run("ours")))
    for stage in ("probe", "retrieval"):
        evaluate(stage, experiment, "ours")
        scores = experiment.files.result(stage, "ours").read_text()
        assert all(f'"{name}"' in scores for name in CLASSES) and '"pixel_accuracy"' in scores
    with pytest.raises(InputError, match=r"setting data\.videos: none in this profile"):
        open_videos(experiment.settings.data.videos, garden)


def spoil_id(root):
    (root / "Garden/classes.txt").write_text("soil\nleaf\nflower\n")


def spoil_colours(root):
    put(root / "Garden/SegmentationClass/e.PNG", np.zeros((56, 56, 3), np.uint8))


def spoil_size(root):
    put(root / "Garden/SegmentationClass/e.PNG", np.zeros((5, 7), np.uint8))


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (spoil_id, r"a 1\.png: id 9 in a mask of 3 classes; name every id in classes\.txt, or give"),
        (spoil_colours, r"e\.PNG: mode RGB has no ids; save it as a palette or grey PNG"),
        (spoil_size, r"e\.PNG: mask is 7x5 but its image .*e\.jpg is"),
        (lambda root: (root / "Garden/JPEGImages/b.png").unlink(), r"b\.jpg: listed in .*train\.txt but not"),
        (lambda root: (root / "Garden/SegmentationClass/v1.png").unlink(), r"v1\.png: listed in .*val\.txt"),
        (lambda root: lists(root, val=[""]), r"val\.txt: an empty split"),
        (lambda root: (root / "Garden/ImageSets/Segmentation/val.txt").unlink(), r"are there: train"),
        (lambda root: (root / "Garden/classes.txt").write_text("a\n\nb\n"), r"line 2: is empty"),
        (lambda root: (root / "Garden").rename(root / "Gardens"), r"Garden: no such folder; set HGRL_DATA"),
        (
            lambda root: (root / "Garden/classes.txt").write_text("x\ny\nz\n" * 3),
            r"line 4: 'x' stands .*twice",
        ),
    ],
)
def test_what_is_wrong_with_a_set_is_told_in_one_line_before_anything_is_trained(garden, spoil, line):
    spoil(garden)
    assert re.search(line, told(prepare_data, load_experiment("garden")))


@pytest.mark.parametrize("name", ["02_sampling", "03_pretraining", "04_probe", "05_retrieval"])
def test_the_pipelines_notebooks_run_on_images_of_several_sizes(garden, pipeline, monkeypatch, name):
    for folder in ("notebooks", "profiles"):
        shutil.copytree(REPOSITORY / folder, pipeline / folder, dirs_exist_ok=True)
    shutil.copy(REPOSITORY / "params.yaml", pipeline)
    monkeypatch.setenv("HGRL_HOME", str(pipeline))
    experiment, run = load_experiment("garden"), "ours-cns5-20"
    if name > "03":
        prepare(experiment, run)
        pretrain(experiment, experiment.run(run))
    parameters = {"02": {}, "03": {"run": run}}.get(name[:2], {"runs": f"random,{run}"})
    assert run_notebook(name, experiment, parameters).exists()
