"""Equation 1 and what else may be done with the same trees, data and compute: the run `ours-best`, and the
trials behind it.

Settings, each off by default: anchors from either view (symmetrised), targets from a momentum encoder, the
hardest of more cross-image negatives, and a contrast of whole regions: a region's mean in one view is to
find, among all regions of the batch in the other view, those that the tree holds likely to belong with it
(equation 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgrl.core.settings import Settings
from hgrl.pretraining.methods.base import Method
from hgrl.pretraining.methods.hierarchical import cns_now
from hgrl.pretraining.methods.moco import MomentumEncoder
from hgrl.pretraining.network import normalise
from hgrl.pretraining.objective import contrastive_loss
from hgrl.pretraining.ranks import (
    error_of_all,
    gather,
    gather_with_gradient,
    rank,
    share,
    sum_over_ranks,
    world,
)
from hgrl.sampling.pixels import PixelSample, positive_probability, sample_pixels
from hgrl.sampling.views import Batch

ABSENT = -1e4  # the logit of a region that a view does not show: weighs nothing, and keeps gradients finite


class HierarchicalBest(Method):
    """Pixel contrast and region contrast on the same forward pass; see `BestSettings`."""

    sections = ("sampling", "objective", "best")

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.sampling, self.objective, self.best = settings.sampling, settings.objective, settings.best
        if world() > 1 and (self.best.hard_negatives > 1 or self.best.momentum is not None):
            raise error_of_all(
                "settings 'best.hard_negatives' and 'best.momentum' are for one process; set them to 1 and null, or start one process"
            )
        self.region_head = self._region_head() if self.best.region_weight else None
        followed = [module for module in (self.network, self.region_head) if module is not None]
        self.target = (
            MomentumEncoder(followed, _encode, self.best.momentum, groups=1)
            if self.best.momentum is not None
            else None
        )

    def _region_head(self) -> nn.Module:
        channels = self.network.channels["hypercolumn"]
        return nn.Sequential(
            nn.Linear(channels, channels), nn.ReLU(inplace=True), nn.Linear(channels, self.best.region_dim)
        )

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        views, images = batch.images.shape[:2], normalise(batch.flat_images)
        hypercolumn, embedding = _encode((self.network,), images)
        target_hypercolumn, target_embedding, target_head = hypercolumn, embedding, self.region_head
        if self.target is not None:
            self.target.follow([module for module in (self.network, self.region_head) if module is not None])
            # normalised over the whole batch, as the views that it is compared with: nothing is told by
            # statistics
            with torch.no_grad():
                target_hypercolumn, target_embedding = _encode(self.target.copies, images)
            target_head = self.target.copies[-1]
        pixel = self._pixel_loss(embedding.unflatten(0, views), target_embedding.unflatten(0, views), batch)
        if self.region_head is None:
            return pixel, {"pixel_loss": pixel.detach()}
        count = batch.distances.shape[-1]
        codes, present = pooled_regions(
            hypercolumn.unflatten(0, views), batch.labels, count, self.region_head
        )
        targets, _ = pooled_regions(target_hypercolumn.unflatten(0, views), batch.labels, count, target_head)
        region = self._region_loss(codes, present, targets, batch.distances)
        loss = self.best.pixel_weight * pixel + self.best.region_weight * region
        return loss, {"pixel_loss": pixel.detach(), "region_loss": region.detach()}

    def _pixel_loss(self, embedding: Tensor, target: Tensor, batch: Batch) -> Tensor:
        """Equation 1 with anchors of the first view and, symmetrised, of the second; all (V, B, D, h, w)."""
        both = ((embedding, target, batch.labels), (embedding.flip(0), target.flip(0), batch.labels.flip(0)))
        terms = []
        for online, reference, labels in both[: 1 + self.best.symmetric]:
            for cns in cns_now(self.sampling, batch.progress):
                sample = sample_pixels(
                    labels,
                    batch.distances,
                    self.sampling,
                    cns * self.best.hard_negatives,
                    batch.generator,
                    share(),
                )
                if self.best.hard_negatives > 1:
                    sample = with_hardest(online, sample, cns * self.best.hard_negatives, cns)
                terms.append(contrastive_loss(online, sample, self.objective, reference)[0])
        return sum(terms) / len(terms)

    def _region_loss(self, codes: Tensor, present: Tensor, targets: Tensor, distances: Tensor) -> Tensor:
        terms = [
            region_contrast(
                codes[view],
                targets[1 - view],
                present[view],
                present[1 - view],
                distances,
                self.sampling.sigma_p,
                self.best.region_temperature,
            )
            for view in range(1 + self.best.symmetric)
        ]
        return sum(terms) / len(terms)


def _encode(modules: Sequence[nn.Module], images: Tensor) -> tuple[Tensor, Tensor]:
    hypercolumn, embedding = modules[0].features(images, "hypercolumn", "embedding")
    return hypercolumn, embedding


def pooled_regions(columns: Tensor, labels: Tensor, regions: int, head: nn.Module) -> tuple[Tensor, Tensor]:
    """Mean of each region's cells through `head`, as unit vectors: (V, B, C, h, w), (V, B, h, w) -> (V, B, R,
    D) float32, (V, B, R) bool.

    The second says which regions a view shows; the vectors of the others mean nothing.
    """
    ids = torch.arange(regions, device=labels.device)
    belongs = (labels.flatten(2).unsqueeze(-1) == ids).to(columns.dtype)  # V, B, N, R
    total = belongs.mT @ columns.flatten(3).mT  # V, B, R, C
    count = belongs.sum(2).unsqueeze(-1)  # V, B, R, 1
    codes = head(total / count.clamp_min(1))
    return F.normalize(codes.float(), dim=-1), count.squeeze(-1) > 0


def region_contrast(
    codes: Tensor,
    targets: Tensor,
    present: Tensor,
    target_present: Tensor,
    distances: Tensor,
    sigma_p: float,
    temperature: float,
) -> Tensor:
    """Cross-entropy between equation 2 and a softmax over all regions of the batch in the other view.

    codes, targets: (B, R, D) unit vectors of the regions in one view and in the other; present,
    target_present: (B, R) bool;
    distances: (B, R, R) in the height unit. Regions of other images have probability 0. A region that the
    other view has lost gives no term; without any the loss is 0. With several ranks the regions of all of
    them are told apart, and the mean of their losses is the global batch's.
    """
    batch, regions = present.shape
    everything, shown = gather_with_gradient(targets), gather(target_present)  # W * B images
    with torch.autocast(codes.device.type, enabled=False):
        logits = codes.flatten(0, 1) @ everything.flatten(0, 1).mT / temperature  # B * R, W * B * R
    log_share = (
        logits.masked_fill(~shown.flatten(), ABSENT)
        .log_softmax(-1)
        .view(batch, regions, len(everything), regions)
    )
    # B, R, R: the own image's regions
    own = log_share.narrow(2, rank() * batch, batch).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
    wanted = positive_probability(distances, sigma_p, target_present)
    valid = present & target_present
    terms = -(wanted * own).sum(-1)
    return (terms * valid).sum() / (sum_over_ranks(valid.sum()).clamp_min(1) / world())


@torch.no_grad()
def with_hardest(embedding: Tensor, sample: PixelSample, drawn: int, cns: int) -> PixelSample:
    """The sample with only the `cns` most similar of its `drawn` cross-image negatives; the region negatives
    stay, all of them.

    embedding: (V, B, D, h, w). The cross-image negatives are the last ones of `sample.negatives`: see
    `sample_pixels`.
    """
    cells = F.normalize(embedding.permute(0, 1, 3, 4, 2).flatten(0, 3).float(), dim=-1)
    own = sample.negatives.shape[-1] - drawn
    pool = sample.negatives[..., own:]
    similarity = (cells[pool] @ cells[sample.anchors].unsqueeze(-1)).squeeze(-1)  # B, A, M
    hardest = similarity.topk(min(cns, pool.shape[-1]), dim=-1).indices
    kept = torch.cat([sample.negatives[..., :own], pool.gather(-1, hardest)], -1)
    valid = torch.cat(
        [sample.negatives_valid[..., :own], sample.negatives_valid[..., own:].gather(-1, hardest)], -1
    )
    return replace(sample, negatives=kept, negatives_valid=valid)
