"""The stand-in for ImageNet pre-training: labels of images from masks, and its loss against a loop."""

import math

import numpy as np
import pytest
import torch
from conftest import with_masks
from jobs import train
from miniature import put
from PIL import Image

from hgrl.core.errors import InputError
from hgrl.data import sources
from hgrl.data.sources import image_classes
from hgrl.pretraining.methods.supervised import label_loss
from hgrl.sampling.order import EpochOrder
from hgrl.sampling.views import TrainingViews, batches


def test_the_loss_equals_a_loop_over_views_images_and_classes():
    # 2 views of 3 images; 5 outputs, 4 classes
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    classes = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 0], [1, 1, 1, 1]], dtype=torch.float64)
    total = 0.0
    for view in range(2):
        for image in range(3):
            for c in range(4):
                p = 1 / (1 + math.exp(-logits[3 * view + image, c]))
                total -= math.log(p if classes[image, c] else 1 - p)
    assert label_loss(logits, classes, one_class=False).item() == pytest.approx(total / 24)


def test_the_loss_of_one_class_an_image_equals_a_loop_over_views_and_images():
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    classes = torch.eye(4, dtype=torch.float64)[[2, 0, 3]]
    total = 0.0
    for view in range(2):
        for image, own in enumerate((2, 0, 3)):
            row = logits[3 * view + image, :4].tolist()
            total -= math.log(math.exp(row[own]) / sum(math.exp(value) for value in row))
    assert label_loss(logits, classes, one_class=True).item() == pytest.approx(total / 6)


@pytest.fixture
def labelled(dataset, tmp_path):
    """The samples, their masks of class 2 alone, of class 1 and void, and so on in turn."""
    paths = []
    for index in range(8):
        mask = np.full((40, 48), 2 if index % 2 else 1, np.uint8)
        mask[:20] = 2 if index % 2 else 255
        paths.append(tmp_path / "masks" / f"own{index}.png")
        Image.fromarray(mask).save(paths[-1])
    return with_masks(dataset[0], paths)


def test_classes_of_a_batch_are_those_in_the_whole_masks_and_void_is_none(labelled, settings):
    views = TrainingViews(labelled, None, settings, seed=0, height_scale=1.0, with_classes=True)
    order = list(EpochOrder(8, 4, 1, 0))
    found = batches(views, EpochOrder(8, 4, 1, 0), 0, torch.device("cpu"))
    for keys, parts in zip(order, found, strict=True):
        assert parts["images"].shape == (2, 4, 3, 32, 32)
        assert parts["classes"].tolist() == [
            [0.0, 0.0, 1.0] if index % 2 else [0.0, 1.0, 0.0] for _, index in keys
        ]


def test_labels_that_images_show_are_learnt(dataset, tiny, tmp_path):
    """All images have all three classes: the loss falls towards 0 from log 2."""
    settings = tiny({"pretrain.epochs": 12, "pretrain.lr": 3e-3})
    losses = train(dataset, settings, tmp_path / "a.pt", method="supervised").losses
    assert losses[0] == pytest.approx(math.log(2), abs=0.4)
    assert losses[-4:].mean() < 0.6 * losses[0]


ONE_CLASS = {"data.labels": {"kind": "imagenet", "folder": "ImageNet", "split": "train"}}


def folders_of(root, settings):
    """Three folders of two images, each folder's of one colour."""
    for c, colour in enumerate(((220, 40, 40), (40, 220, 40), (40, 40, 220))):
        for k in range(2):
            put(root / f"ImageNet/train/n{c}/n{c}_{k}.JPEG", np.full((40, 48, 3), colour, np.uint8))
    return image_classes(settings.data, root)


def test_folders_of_classes_are_learnt_by_a_softmax(tiny, tmp_path):
    settings = tiny({"pretrain.epochs": 30, "pretrain.lr": 3e-3, "pretrain.batch": 6, **ONE_CLASS})
    samples = folders_of(tmp_path, settings)
    losses = train((samples, None), settings, tmp_path / "a.pt", method="supervised").losses
    assert losses[0] == pytest.approx(math.log(3), abs=0.4)
    assert losses[-4:].mean() < 0.5 * losses[0]


def test_images_without_labels_are_one_line(tiny, tmp_path):
    put(tmp_path / "ImageNet/train/flat.JPEG", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(InputError, match=r"setting 'data.labels': split 'train' of ImageNet has neither"):
        image_classes(tiny(ONE_CLASS).data, tmp_path)


def test_more_classes_than_outputs_are_one_line(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MOST_CLASSES", 2)
    with pytest.raises(InputError, match="3 classes in ImageNet; at most 2 can be learnt"):
        folders_of(tmp_path, tiny(ONE_CLASS))
