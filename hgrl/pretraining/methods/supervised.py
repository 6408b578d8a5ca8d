"""The stand-in for ImageNet pre-training: the same network, taught which classes an image shows."""

import torch.nn.functional as F
from torch import Tensor, nn

from hgrl.core.labels import MOST_CLASSES
from hgrl.core.settings import Settings
from hgrl.data.normalise import normalise
from hgrl.pretraining.methods.base import Method
from hgrl.sampling.views import Batch


class ImageLabels(Method):
    """Classification of both views, a linear classifier on the pooled last stage.

    Images in folders named by class, as ImageNet's, show one class each: softmax. Images with masks show
    several: a sigmoid a class. Labels are of the whole image, whatever a crop still shows of it. Only the
    backbone is trained."""

    needs_trees = False
    needs_classes = True
    layers = ("backbone",)

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        # outputs behind the data set's own classes are never read
        self.classifier = nn.Linear(self.network.channels["backbone"], MOST_CLASSES)
        self.one_class = settings.data.label_source.kind == "imagenet"

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        features = self.network.backbone(normalise(batch.flat_images))[-1].mean((2, 3))
        logits = self.classifier(features).float()
        return label_loss(logits, batch.classes, self.one_class), {}


def label_loss(logits: Tensor, classes: Tensor, one_class: bool) -> Tensor:
    """Mean cross entropy over images, of a softmax if each shows one class; else binary, over classes too.

    logits: (V * B, at least C), the rest unread; classes: (B, C) in {0, 1}."""
    views, count = len(logits) // len(classes), classes.shape[1]
    measure = F.cross_entropy if one_class else F.binary_cross_entropy_with_logits
    return measure(logits[:, :count], classes.repeat(views, 1))
