"""The stand-in for ImageNet pre-training: the same network, taught which classes an image shows."""

import torch.nn.functional as F
from torch import Tensor, nn

from hgrl.core.settings import Settings
from hgrl.data.normalise import normalise
from hgrl.pretraining.methods.base import Method
from hgrl.sampling.views import Batch

MOST_CLASSES = 255  # the ids that a mask can hold; outputs behind the data set's own classes are never read


class ImageLabels(Method):
    """Multi-label classification of both views, a linear classifier on the pooled last stage.

    Labels are of the whole image, whatever a crop still shows of it, as on ImageNet. Unlike there, images are
    those that the probe then learns segments from. Only the backbone is trained."""

    needs_trees = False
    needs_classes = True
    layers = ("backbone",)

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.classifier = nn.Linear(self.network.channels["backbone"], MOST_CLASSES)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        features = self.network.backbone(normalise(batch.flat_images))[-1].mean((2, 3))
        return label_loss(self.classifier(features).float(), batch.classes), {}


def label_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """Mean binary cross entropy. logits: (V * B, at least C), the rest unread; classes: (B, C) in {0, 1}."""
    views, count = len(logits) // len(classes), classes.shape[1]
    return F.binary_cross_entropy_with_logits(logits[:, :count], classes.repeat(views, 1))
