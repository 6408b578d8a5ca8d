"""The stand-in for ImageNet pre-training: labels of images from masks, and its loss against a loop."""

import math

import numpy as np
import pytest
import torch
from conftest import with_masks
from jobs import train
from PIL import Image

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
    assert label_loss(logits, classes).item() == pytest.approx(total / 24)


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
