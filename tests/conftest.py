"""Tiny settings, eight tiny images with region trees drawn by hand, and a folder of profiles: what the
training tests share.
"""

import copy
import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from hgrl.core import paths
from hgrl.core.settings import Settings
from hgrl.data.samples import Samples
from hgrl.grouping.region_tree import RegionTree
from hgrl.sampling.views import Batch

torch.set_num_threads(1)

TINY = {
    "seeds": [0],
    "device": "cpu",
    "grouping": {"max_regions": 4},
    "network": {"backbone": "resnet18", "width": 8, "hypercolumn_channels": 8, "embedding_dim": 8},
    "augment": {"crop_size": 32, "crop_area": [0.5, 1.0]},
    "sampling": {"height_unit": "raw", "cns": [2]},
    "objective": {"form": "log", "temperature": 0.3},
    "methods": {
        "moco": {"momentum": 0.9, "queue": 16, "dim": 8, "groups": 2},
        "instfeat": {"dim": 8},
        "segsort": {"clusters": 2, "iterations": 3},
        "densecl": {"momentum": 0.9, "queue": 16, "dim": 8, "hidden": 8, "groups": 2},
        "detcon": {"momentum": 0.9, "dim": 8, "hidden": 8, "groups": 2},
        "hsg": {"groups": [2]},
        "deepcluster": {"clusters": 3},
        "crw": {"grid": 3, "dim": 8},
        "flownetc": {"width": 4, "reach": 2},
        "mgpff": {"width": 4, "scales": [8, 4]},
    },
    "pretrain": {"epochs": 3, "batch": 4, "lr": 1e-3, "schedule": "cosine", "workers": 0},
    "probe": {
        "heads": ["linear-backbone", "aspp-embedding"],
        "iterations": 4,
        "end_to_end": {"iterations": 4},
        "batch": 4,
        "crop_size": 32,
        "atrous_rates": [1, 2],
        "head_channels": 8,
    },
}


def merged(content: dict, changes: dict) -> dict:
    """`content` with dotted `changes` ("pretrain.lr" -> value)."""
    result = copy.deepcopy(content)
    for dotted, value in changes.items():
        *sections, key = dotted.split(".")
        target = result
        for section in sections:
            target = target.setdefault(section, {})
        target[key] = value
    return result


@pytest.fixture
def tiny():
    """A function of dotted changes that gives tiny settings."""
    return lambda changes=None: Settings.model_validate(merged(TINY, changes or {}))


@pytest.fixture
def settings(tiny):
    return tiny()


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty repository folder with one profile and one run."""
    monkeypatch.setattr(paths, "HOME", tmp_path)
    monkeypatch.setattr(paths, "PARAMS", tmp_path / "params.yaml")
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "tiny.yaml").write_text("seeds: [0, 1]\nsampling: {anchors: 3}\n")
    (tmp_path / "params.yaml").write_text(
        "runs:\n  ours: {method: hierarchical, overrides: {sampling.cns: [20]}}\n"
    )
    return tmp_path


def three_regions(height: int = 40, width: int = 48) -> RegionTree:
    """Left half 0; right half above 1, below 2. Regions 1 and 2 merge at 0.25, the whole at 0.75."""
    labels = np.zeros((height, width), np.uint8)
    labels[: height // 2, width // 2 :] = 1
    labels[height // 2 :, width // 2 :] = 2
    return RegionTree(labels, np.array([[1, 2], [0, 3]], np.uint8), np.array([0.25, 0.75], np.float32))


def one_region(height: int = 40, width: int = 48) -> RegionTree:
    return RegionTree(
        np.zeros((height, width), np.uint8), np.zeros((0, 2), np.uint8), np.zeros(0, np.float32)
    )


def batch_of(trees: list[RegionTree], seed: int = 0, progress: float = 0.0) -> Batch:
    """Random images; the labels of each tree at 8x8 cells; of three classes each image shows those of its
    number's bits.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.stack([torch.from_numpy(tree.labels[2::5, 3::6][:8, :8].copy()) for tree in trees])
    distances = torch.zeros(len(trees), 4, 4)
    for own, tree in zip(distances, trees, strict=True):
        own[: tree.regions, : tree.regions] = torch.from_numpy(tree.distances())
    images = torch.randint(256, (2, len(trees), 3, 32, 32), dtype=torch.uint8, generator=generator)
    classes = torch.arange(len(trees))[:, None].bitwise_and(torch.tensor([1, 2, 4])).bool().float()
    flow = 2 * torch.rand(len(trees), 1, 2, 32, 32, generator=generator)
    given = images, torch.stack([labels, labels]), distances, progress, generator, classes
    return Batch(*given, indices=torch.arange(len(trees)), flow=flow)


def built(name: str, settings: Settings) -> "Method":  # noqa: F821
    """A method that has looked at the images of `batch_of`, if it does so before the first step."""
    from hgrl.pretraining.methods import build_method

    method = build_method(name, settings)
    if method.begins != "never":
        batch = batch_of([three_regions()] * 4)
        method.eval().begin([batch.images[0]], batch.generator)
    return method.train()


SMALL = {
    "seeds": [0, 1],
    "device": "cpu",
    "data": {
        "scenes": {
            "size": 48,
            "unlabelled": 6,
            "train": 4,
            "tune": 3,
            "val": 4,
            "videos": 1,
            "frames": 4,
            "contours": 0,
        },
        "pretrain": [{"kind": "voc", "folder": "VOC2012", "split": "unlabelled"}],
        "labelled": {
            "scenes": {
                "train": {"kind": "voc", "folder": "VOC2012", "split": "train"},
                "val": {"kind": "voc", "folder": "VOC2012", "split": "val"},
            }
        },
        "videos": {"kind": "davis", "folder": "DAVIS", "split": "val"},
    },
    "grouping": {"image_scale": 2.0, "spectral": False, "min_area": 100},
    "network": TINY["network"],
    "augment": TINY["augment"],
    "objective": TINY["objective"],
    "methods": TINY["methods"],
    "finetune": {"iterations": 2, "batch": 4, "crop_size": 32, "dilation": 1},
    "pretrain": {"epochs": 3, "batch": 3, "lr": 1e-3, "schedule": "cosine", "workers": 0},
    "probe": {
        **TINY["probe"],
        "heads": ["linear-backbone", "linear-embedding"],
        "iterations": 3,
        "end_to_end": {"iterations": 2},
    },
    "retrieval": {"segments": 3, "kmeans_iterations": 2},
    "tracking": {"short_side": 48},
    "ablation": {
        "epochs": 1,
        "iterations": 2,
        "train": {"kind": "voc", "folder": "VOC2012", "split": "train"},
        "val": {"kind": "voc", "folder": "VOC2012", "split": "tune"},
    },
}
SMALL_PARAMS = {
    "profile": "small",
    "trained": ["ours"],
    "probe": ["random", "ours"],
    "retrieval": ["lab", "ours"],
    "tracking": ["identity", "random"],
    "runs": {
        **{
            name: {"method": name}
            for name in ("random", "position", "lab", "lab-position", "identity", "flow")
        },
        "random-e2e": {"method": "random", "end_to_end": True},
        "ours": {"method": "hierarchical", "overrides": {"sampling.cns": [2]}},
        "ours-backbone": {
            "method": "hierarchical",
            "checkpoint_of": "ours",
            "overrides": {"tracking.layer": "backbone"},
        },
        "ours-lab": {
            "method": "hierarchical",
            "checkpoint_of": "ours",
            "overrides": {"tracking.layer": "embedding+lab", "tracking.lab_share": 1.0},
        },
        **{name: {"method": name} for name in ("moco", "segsort", "supervised")},
        "moco-e2e": {"method": "moco", "checkpoint_of": "moco", "end_to_end": True},
        "imagenet": {"method": "imagenet", "weights": "resnet50.pth"},
    },
    "sweep": {"cns": [0], "sigma_p": [0.8]},
    "ablations": {"ratio": {"objective.form": "ratio"}},
}


def write_profile(home: Path, changes: dict | None = None, name: str = "small") -> None:
    """`profiles/<name>.yaml` of a home, with dotted changes."""
    (home / "profiles" / f"{name}.yaml").write_text(yaml.safe_dump(merged(SMALL, changes or {})))


@pytest.fixture(scope="session")
def finished_home(tmp_path_factory):
    """A repository folder whose profile `small` has its data, trees and the trained run `ours`; for
    `pipeline` to copy.
    """
    from hgrl.core.experiment import load_experiment
    from hgrl.pretraining.stage import prepare

    home = tmp_path_factory.mktemp("finished")
    (home / "profiles").mkdir()
    write_profile(home)
    (home / "params.yaml").write_text(yaml.safe_dump(SMALL_PARAMS, sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "HOME", home)
        patch.setattr(paths, "PARAMS", home / "params.yaml")
        prepare(load_experiment("small"), "ours")
    return home


@pytest.fixture
def pipeline(finished_home, tmp_path, monkeypatch):
    """A repository folder of one's own, a copy of `finished_home`."""
    home = shutil.copytree(finished_home, tmp_path / "home")
    monkeypatch.setattr(paths, "HOME", home)
    monkeypatch.setattr(paths, "PARAMS", home / "params.yaml")
    return home


@pytest.fixture
def experiment(pipeline):
    """A function that loads the profile `small` of `pipeline` as its files are now."""
    from hgrl.core.experiment import load_experiment

    return lambda: load_experiment("small")


@pytest.fixture
def steps(monkeypatch):
    """The steps trained from here on: the seed of each."""
    from hgrl.pretraining.loop import TrainingState

    done, real = [], TrainingState.train_step
    monkeypatch.setattr(
        TrainingState, "train_step", lambda self, *given: (done.append(self.job.seed), real(self, *given))[1]
    )
    return done


@pytest.fixture
def grouped(monkeypatch):
    """The images grouped from here on: the shape of each."""
    from hgrl.grouping import group

    done, real = [], group.region_tree
    monkeypatch.setattr(
        group, "region_tree", lambda image, *rest: (done.append(image.shape), real(image, *rest))[1]
    )
    return done


@pytest.fixture
def scored(monkeypatch):
    """The (run, seed) scored from here on; retrieval, tracking and probe as they are."""
    from hgrl.evaluation import stage as evaluation

    done = []

    def remembering(score_run):
        return lambda experiment, run, seed, *labelled: (
            done.append((run.name, seed)),
            score_run(experiment, run, seed, *labelled),
        )[1]

    for module in evaluation.MODULES.values():
        monkeypatch.setattr(module, "score_run", remembering(module.score_run))
    return done


def change_profile(home: Path, changes: dict) -> None:
    """Dotted changes of the profile `small` as it is now."""
    file = home / "profiles" / "small.yaml"
    file.write_text(yaml.safe_dump(merged(yaml.safe_load(file.read_text()), changes)))


def add_runs(runs: dict) -> None:
    params = yaml.safe_load(paths.PARAMS.read_text())
    paths.PARAMS.write_text(yaml.safe_dump(params | {"runs": params["runs"] | runs}, sort_keys=False))


@pytest.fixture
def with_hed(pipeline):
    """`pipeline` with settings of a tiny edge network, and a run that learns from its trees."""
    from hgrl.core.experiment import load_experiment
    from hgrl.data.stage import prepare_data

    hed = {"width": 2, "shrink": [1], "crop_size": 48, "iterations": 3, "batch": 2, "lr": 1e-3}
    groupings = {"hed": {"edges": "hed", "image_scale": 1.0}}
    change_profile(pipeline, {"data.scenes.contours": 2, "groupings": groupings, "hed": hed})
    add_runs({"ours-hed": {"method": "hierarchical", "grouping": "hed"}})
    prepare_data(load_experiment("small"))
    return pipeline


EXTRA = [{"kind": "voc", "folder": "VOC2012", "split": split} for split in ("single", "many")]


@pytest.fixture
def counted(pipeline):
    """`pipeline` with scenes of one and of many objects, and the repository's own runs on them."""
    change_profile(pipeline, {"data.scenes.objects": 3, "data.extra": EXTRA})
    repository = yaml.safe_load((Path(__file__).parents[1] / "params.yaml").read_text())["runs"]
    names = [name for name in repository if name.endswith(("-single", "-many", "-small"))]
    add_runs({name: {**repository[name], "profiles": ["small"]} for name in names})
    return pipeline


def ages(folder: Path) -> dict[Path, int]:
    """When each file below a folder was written."""
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}


def told(call, *given) -> str:
    """The one line of the InputError that a call raises."""
    from hgrl.core.errors import InputError

    with pytest.raises(InputError) as caught:
        call(*given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


COLOURS = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200]], np.uint8)


@pytest.fixture
def dataset(tmp_path):
    """(Samples with masks, folder of trees): 8 images of three coloured regions, noise by seed; the mask is
    the region.
    """
    random, names, images, masks = np.random.default_rng(0), [], [], []
    for index in range(8):
        tree = three_regions()
        image = COLOURS[tree.labels].astype(int) + random.integers(-30, 30, (40, 48, 3))
        name = f"toy/{index}"
        for folder, array in (("images", image.clip(0, 255).astype(np.uint8)), ("masks", tree.labels)):
            path = tmp_path / folder / f"{index}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(array).save(path)
        (tmp_path / "trees" / "toy").mkdir(parents=True, exist_ok=True)
        tree.save(tmp_path / "trees" / f"{name}.npz")
        names.append(name)
        images.append(tmp_path / "images" / f"{index}.png")
        masks.append(tmp_path / "masks" / f"{index}.png")
    samples = Samples(tuple(names), tuple(images), tuple(masks), classes=("left", "above", "below"))
    return samples, tmp_path / "trees"


def with_masks(samples: Samples, masks) -> Samples:
    return dataclasses.replace(samples, masks=tuple(masks))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; tests of it are skipped without one."""
    if "HGRL_DATA" not in os.environ:
        pytest.skip("HGRL_DATA is not set: no real data sets to check against")
    return Path(os.environ["HGRL_DATA"])
