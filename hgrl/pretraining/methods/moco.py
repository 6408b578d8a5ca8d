"""MoCo (He et al. 2020, version 1): an image's two views are told from a queue of other images' keys."""

from collections.abc import Sequence

from torch import Tensor, nn

from hgrl.core.data_settings import AtLeastOne, Fraction, Positive, Section
from hgrl.core.settings import Settings
from hgrl.data.normalise import normalise
from hgrl.pretraining.methods.base import Method
from hgrl.pretraining.methods.contrast import (
    InstDiscViews,
    MomentumEncoder,
    Queue,
    image_codes,
    in_groups,
    info_nce,
)
from hgrl.pretraining.ranks import batch_part
from hgrl.sampling.views import Batch


class MoCoSettings(Section):
    momentum: Fraction = 0.999  # the paper's section 3.3, and its code
    queue: AtLeastOne = 65_536
    temperature: Positive = 0.07
    dim: AtLeastOne = 128
    groups: AtLeastOne = 8  # of batch normalisation, shuffled for the keys: the authors' GPUs
    augment: InstDiscViews | None = InstDiscViews()  # None: as the profile has it


class MoCo(Method):
    """Queries of the first view, keys of the second; one linear head on the pooled last stage.

    Differs from the authors' code in the backbone, which ends at Res4 for every method and alone is trained,
    and, by the profile, in batch, optimiser and the queue's length."""

    needs_trees = False
    own = ("moco", MoCoSettings)
    layers = ("backbone",)

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        own = self.moco
        self.head = nn.Linear(self.network.channels["backbone"], own.dim)
        followed = (self.network.backbone, self.head)
        self.key_encoder = MomentumEncoder(followed, encode_image, own.momentum, own.groups)
        self.queue = Queue(own.queue, own.dim, settings.pretrain.batch, "methods.moco.queue")

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        return self.image_loss(self.query_features(batch.images[0]), batch)

    def query_features(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) uint8 -> the last stage, (B, C, h, w), normalised in as large groups as the keys."""
        return in_groups(lambda own: self.network.backbone(normalise(own))[-1], images, self.moco.groups)

    def image_loss(self, features: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of the first view's last stage, (B, C, h, w); moves key encoder and queue one step on."""
        queries = image_codes(features, self.head)
        self.key_encoder.follow((self.network.backbone, self.head))
        (all_keys,) = self.key_encoder(batch.images[1], batch.generator)
        keys = batch_part().of(all_keys)
        loss = info_nce(queries, keys, self.queue.keys, self.moco.temperature)
        self.queue.push(all_keys)
        return loss, {"positive_similarity": (queries * keys).sum(1).mean().detach()}


def encode_image(modules: Sequence[nn.Module], images: Tensor) -> tuple[Tensor]:
    backbone, head = modules
    return (image_codes(backbone(normalise(images))[-1], head),)
