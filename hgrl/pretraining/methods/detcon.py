"""DetCon (Hénaff et al. 2021): a flat region is told from all others of the batch, in the other view."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from skimage.segmentation import felzenszwalb
from torch import Tensor, nn

from hgrl.core.data_settings import AtLeastOne, Fraction, Positive, Range, Section
from hgrl.core.settings import Settings, ViewSettings
from hgrl.data.normalise import normalise
from hgrl.grouping.region_tree import RegionTree
from hgrl.pretraining.methods.base import Method, method_settings
from hgrl.pretraining.methods.contrast import MomentumEncoder, in_groups
from hgrl.pretraining.objective import NO_NEGATIVE
from hgrl.pretraining.ranks import batch_part, gather, rank, sum_over_ranks, world
from hgrl.sampling.views import Batch, Partition

PHOTOGRAPH = 500 * 375  # px of a photograph of ImageNet's, for which `scale` is given
IDS = 256  # that a region may have


class DetConViews(ViewSettings):
    """The augmentation of the authors' code, which is BYOL's, but for views with inverted highlights.

    They blur all first views and a tenth of the second ones; here each view as often as both on average."""

    crop_area: Range = (0.08, 1.0)
    jitter: Fraction = 0.8
    saturation: float = Field(0.2, ge=0)
    greyscale: Fraction = 0.2
    blur: Fraction = 0.55


class DetConSettings(Section):
    regions: Literal["felzenszwalb", "tree"] = "felzenszwalb"
    # Felzenszwalb's scale and least size, which follow the image's area; 750: 250 regions at most
    scale: float = Field(1000.0, ge=750)
    # of `tree`: a whole number is how many regions at most, any other the height in (0, 1) up to which all
    # merges are made
    cut: AtLeastOne | Annotated[float, Field(gt=0, lt=1)] = 16
    masks: AtLeastOne = 16  # regions of an image that contrast
    momentum: Fraction = 0.996  # at first; rises to 1 with a cosine
    temperature: Positive = 0.1
    dim: AtLeastOne = 256
    hidden: AtLeastOne = 4096
    groups: AtLeastOne = 8  # as for MoCo
    augment: DetConViews | None = DetConViews()  # None: as the profile has it


class DetCon(Method):
    """DetCon-B: regions of both views, pooled from the last stage, projected and predicted, are queries; keys
    are a momentum encoder's.

    `regions`: Felzenszwalb's, as the authors have it, or our tree's under one cut: its heights then say no
    more, which is what sets this apart from the paper's method. Differs from the authors' code: regions are
    drawn without replacement, the same ones for both views, and first those that both show (theirs with
    replacement, for each view by itself, weighed by how often); no batch normalisation in the heads, where
    regions that are not there would count; the backbone's in groups, as MoCo's (theirs over all cards); mean
    of both directions, not their sum; stride 16, not 32."""

    own = ("detcon", DetConSettings)
    layers = ("backbone",)

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        own = self.detcon
        self.projector = _head(self.network.channels["backbone"], own.hidden, own.dim)
        self.predictor = _head(own.dim, own.hidden, own.dim)
        self.key_encoder = MomentumEncoder(self._followed(), _encode, own.momentum, own.groups)

    @classmethod
    def partition(cls, settings: Settings) -> Partition:
        own = method_settings(settings, *cls.own)
        if own.regions == "tree":
            return partial(cut_regions, cut=own.cut)
        return partial(felzenszwalb_regions, scale=own.scale)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        own, views = self.detcon, len(batch.images)
        chosen, shown = draw_regions(batch.labels, own.masks, batch.generator)
        masks = (batch.labels.unsqueeze(2) == chosen[..., None, None]).float()  # V, B, K, S / 4, S / 4
        followed = self._followed()
        encode = partial(_last_map, followed)
        maps = torch.stack([in_groups(encode, view, own.groups) for view in batch.images])
        queries = self.predictor(self.projector(pooled(maps, masks)))
        self.key_encoder.momentum = 1 - (1 - own.momentum) * (1 + math.cos(math.pi * batch.progress)) / 2
        self.key_encoder.follow(followed)
        with torch.no_grad():
            encoded = [self.key_encoder(view, batch.generator)[0] for view in batch.images]
            own_maps = torch.stack([batch_part().of(view) for view in encoded])
            keys = _unit(self.key_encoder.copies[1](pooled(own_maps, masks)))
        everyone = gather(keys.transpose(0, 1)), gather(shown.transpose(0, 1))
        loss, similarity = region_loss(_unit(queries), shown, *everyone, own.temperature)
        return loss, {"positive_similarity": similarity, "regions": shown.sum() / (views * shown.shape[1])}

    def _followed(self) -> tuple[nn.Module, ...]:
        return self.network.backbone, self.projector


def _head(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, outputs))


def _last_map(modules: Sequence[nn.Module], images: Tensor) -> Tensor:
    return modules[0](normalise(images))[-1]


def _encode(modules: Sequence[nn.Module], images: Tensor) -> tuple[Tensor]:
    return (_last_map(modules, images),)


def _unit(codes: Tensor) -> Tensor:
    return F.normalize(codes.float(), dim=-1)


def cut_regions(image: np.ndarray, tree: RegionTree, cut: int | float) -> np.ndarray:
    """(H, W) uint8: the tree cut into at most `cut` regions, or at the height `cut`."""
    return tree.cut_into(cut) if isinstance(cut, int) else tree.cut(cut)


def felzenszwalb_regions(image: np.ndarray, tree: RegionTree, scale: float) -> np.ndarray:
    """(H, W) uint8 regions of (H, W, 3) uint8 RGB, by the authors' numbers for a `PHOTOGRAPH`, none smaller
    than `scale` of its pixels."""
    own = scale * image.shape[0] * image.shape[1] / PHOTOGRAPH
    return felzenszwalb(image, scale=own, min_size=math.ceil(own)).astype(np.uint8)


def draw_regions(labels: Tensor, most: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Up to `most` different regions of each image: ids (B, K) int64, and which a view shows (V, B, K) bool.

    labels: (V, B, h, w) uint8. Those that both views show come first, then those of one."""
    part, cells = batch_part(), labels.flatten(2).long()
    present = torch.zeros(*cells.shape[:2], IDS, dtype=torch.bool, device=labels.device)
    present = present.scatter(2, cells, True)  # V, B, IDS
    whole = part.world * cells.shape[1], IDS  # every rank makes the global batch's draw
    key = part.of(torch.rand(whole, generator=generator, device=labels.device)) + present.sum(0)
    chosen = key.topk(min(most, IDS), dim=1).indices
    return chosen, present.gather(2, chosen.expand(len(labels), -1, -1))


def pooled(maps: Tensor, masks: Tensor) -> Tensor:
    """Means of (V, B, C, h, w) features over masks (V, B, K, H, W) of a finer grid: (V, B, K, C).

    A cell of the coarser grid counts by its part in the mask; an empty mask has zeros."""
    area = F.adaptive_avg_pool2d(masks.flatten(0, 1), maps.shape[-2:]).flatten(2)  # V * B, K, h * w
    weights = area / area.sum(2, keepdim=True).clamp_min(torch.finfo(area.dtype).tiny)
    return (weights.to(maps.dtype) @ maps.flatten(0, 1).flatten(2).mT).unflatten(0, maps.shape[:2])


def region_loss(
    queries: Tensor, shown: Tensor, keys: Tensor, keys_shown: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Equation 3: -log of the weight of a region's key in the other view among those of all regions of the
    global batch in both views but its own in this one; mean of the regions that both views show.

    queries: (V = 2, B, K, D) unit vectors of this rank's images; shown: (V, B, K) bool; of all ranks' images
    keys (W * B, V, K, D) and keys_shown (W * B, V, K). Also, detached, the mean cosine of query and key."""
    views, batch, count = shown.shape
    flat = keys.flatten(0, 2)
    row = torch.arange(batch * count, device=shown.device).view(batch, count)
    image = row // count + rank() * batch
    view = torch.arange(views, device=shown.device).view(-1, 1, 1)
    # where the keys of this view stand, and of the other one: V, B, K
    own, partner = ((image * views + other) * count + row % count for other in (view, 1 - view))
    with torch.autocast(queries.device.type, enabled=False):
        cosines = queries @ flat.T  # V, B, K, W * B * V * K
        logits = (cosines / temperature).masked_fill(~keys_shown.flatten(), NO_NEGATIVE)
        logits = logits.scatter(3, own.unsqueeze(3), NO_NEGATIVE)
    terms = F.cross_entropy(logits.flatten(0, 2), partner.flatten(), reduction="none").view(shown.shape)
    both = shown.all(0).expand_as(shown)
    similarity = (cosines.gather(3, partner.unsqueeze(3)).squeeze(3) * both).sum() / both.sum().clamp_min(1)
    return (terms * both).sum() / (sum_over_ranks(both.sum()).clamp_min(1) / world()), similarity.detach()
