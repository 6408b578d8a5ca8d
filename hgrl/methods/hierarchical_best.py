"""The paper's idea with what else the same data and compute can give it: the run `ours-best`.

Beside equation 1, drawn from either view, a contrast of whole regions: a region's mean in one view is to find, among all regions of the
batch in the other view, those that the tree holds likely to belong with it (equation 2). Every region of every image then gives a
gradient in every step, where equation 1 draws 7 anchors an image. Each part can be switched off, for the ablation in notebook 07.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgrl.config import Settings
from hgrl.distributed import error_of_all, gather, gather_with_gradient, rank, sum_over_ranks, world
from hgrl.methods.base import Method
from hgrl.methods.hierarchical import cns_now
from hgrl.methods.moco import MomentumEncoder
from hgrl.network import normalise
from hgrl.objective import contrastive_loss
from hgrl.sampling import PixelSample, positive_probability, sample_pixels
from hgrl.views import Batch

ABSENT = -1e4  # the logit of a region that a view does not show: weighs nothing, and keeps gradients finite


class HierarchicalBest(Method):
    """Pixel contrast, symmetrised, and region contrast, on the same forward pass; optionally against a momentum encoder's targets."""

    sections = ("sampling", "objective", "best")

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.sampling, self.objective, self.best = settings.sampling, settings.objective, settings.best
        if self.best.hard_negatives > 1 and world() > 1:
            raise error_of_all("setting 'best.hard_negatives': the hardest are looked for on one process alone; set it to 1, or start one process")
        channels = self.network.channels["hypercolumn"]
        self.region_head = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(inplace=True), nn.Linear(channels, self.best.region_dim))
        followed = (self.network, self.region_head)
        self.target = MomentumEncoder(followed, _encode, self.best.momentum, groups=1) if self.best.momentum is not None else None

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        views = batch.images.shape[:2]
        hypercolumn, embedding = _encode((self.network,), normalise(batch.flat_images))
        target_hypercolumn, target_embedding, target_head = hypercolumn, embedding, self.region_head
        if self.target is not None:
            self.target.follow((self.network, self.region_head))
            target_hypercolumn, target_embedding = self.target(normalise(batch.flat_images), batch.generator)
            target_head = self.target.copies[1]
        pixel = self._pixel_loss(embedding.unflatten(0, views), target_embedding.unflatten(0, views), batch)
        regions = [
            pooled_regions(columns.unflatten(0, views), batch.labels, batch.distances.shape[-1], head)
            for columns, head in ((hypercolumn, self.region_head), (target_hypercolumn, target_head))
        ]
        region = self._region_loss(*regions[0], regions[1][0], batch.distances)
        loss = self.best.pixel_weight * pixel + self.best.region_weight * region
        return loss, {"pixel_loss": pixel.detach(), "region_loss": region.detach()}

    def _pixel_loss(self, embedding: Tensor, target: Tensor, batch: Batch) -> Tensor:
        """Equation 1 with anchors of the first view and, symmetrised, of the second; all (V, B, D, h, w)."""
        both = ((embedding, target, batch.labels), (embedding.flip(0), target.flip(0), batch.labels.flip(0)))
        terms = []
        for online, reference, labels in both[: 1 + self.best.symmetric]:
            for cns in cns_now(self.sampling, batch.progress):
                sample = sample_pixels(labels, batch.distances, self.sampling, cns * self.best.hard_negatives, batch.generator)
                if self.best.hard_negatives > 1:
                    sample = with_hardest(online, sample, cns * self.best.hard_negatives, cns)
                terms.append(contrastive_loss(online, sample, self.objective, reference)[0])
        return sum(terms) / len(terms)

    def _region_loss(self, codes: Tensor, present: Tensor, targets: Tensor, distances: Tensor) -> Tensor:
        terms = [
            region_contrast(codes[view], targets[1 - view], present[view], present[1 - view], distances, self.sampling.sigma_p, self.best.region_temperature)
            for view in range(1 + self.best.symmetric)
        ]
        return sum(terms) / len(terms)


def _encode(modules: tuple[nn.Module, ...], images: Tensor) -> tuple[Tensor, Tensor]:
    hypercolumn, embedding = modules[0].features(images, "hypercolumn", "embedding")
    return hypercolumn, embedding


def pooled_regions(columns: Tensor, labels: Tensor, regions: int, head: nn.Module) -> tuple[Tensor, Tensor]:
    """Mean of each region's cells through `head`, as unit vectors: (V, B, C, h, w), (V, B, h, w) -> (V, B, R, D) float32, (V, B, R) bool.

    The second says which regions a view shows; the vectors of the others mean nothing.
    """
    ids = torch.arange(regions, device=labels.device)
    belongs = (labels.flatten(2).unsqueeze(-1) == ids).to(columns.dtype)  # V, B, N, R
    total = belongs.mT @ columns.flatten(3).mT  # V, B, R, C
    count = belongs.sum(2).unsqueeze(-1)  # V, B, R, 1
    codes = head(total / count.clamp_min(1))
    return F.normalize(codes.float(), dim=-1), count.squeeze(-1) > 0


def region_contrast(
    codes: Tensor, targets: Tensor, present: Tensor, target_present: Tensor, distances: Tensor, sigma_p: float, temperature: float
) -> Tensor:
    """Cross-entropy between equation 2 and a softmax over all regions of the batch in the other view.

    codes, targets: (B, R, D) unit vectors of the regions in one view and in the other; present, target_present: (B, R) bool;
    distances: (B, R, R) in the height unit. Regions of other images have probability 0. A region that the other view has lost gives no
    term; without any the loss is 0. With several ranks the regions of all of them are told apart, and the mean of their losses is the
    global batch's.
    """
    batch, regions = present.shape
    everything, shown = gather_with_gradient(targets), gather(target_present)  # W * B images
    with torch.autocast(codes.device.type, enabled=False):
        logits = codes.flatten(0, 1) @ everything.flatten(0, 1).mT / temperature  # B * R, W * B * R
    log_share = logits.masked_fill(~shown.flatten(), ABSENT).log_softmax(-1).view(batch, regions, len(everything), regions)
    own = log_share.narrow(2, rank() * batch, batch).diagonal(dim1=0, dim2=2).permute(2, 0, 1)  # B, R, R: the own image's regions
    wanted = positive_probability(distances, sigma_p, target_present)
    valid = present & target_present
    terms = -(wanted * own).sum(-1)
    return (terms * valid).sum() / (sum_over_ranks(valid.sum()).clamp_min(1) / world())


@torch.no_grad()
def with_hardest(embedding: Tensor, sample: PixelSample, drawn: int, cns: int) -> PixelSample:
    """The sample with only the `cns` most similar of its `drawn` cross-image negatives; the region negatives stay, all of them.

    embedding: (V, B, D, h, w). The cross-image negatives are the last ones of `sample.negatives`: see `sample_pixels`.
    """
    cells = F.normalize(embedding.permute(0, 1, 3, 4, 2).flatten(0, 3).float(), dim=-1)
    own = sample.negatives.shape[-1] - drawn
    pool = sample.negatives[..., own:]
    similarity = (cells[pool] @ cells[sample.anchors].unsqueeze(-1)).squeeze(-1)  # B, A, M
    hardest = similarity.topk(min(cns, pool.shape[-1]), dim=-1).indices
    kept = torch.cat([sample.negatives[..., :own], pool.gather(-1, hardest)], -1)
    valid = torch.cat([sample.negatives_valid[..., :own], sample.negatives_valid[..., own:].gather(-1, hardest)], -1)
    return replace(sample, negatives=kept, negatives_valid=valid)
