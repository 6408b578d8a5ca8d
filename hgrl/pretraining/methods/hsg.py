"""HSG (Ke et al. 2022), in small: SegSort, and its contrast among groups of segments, level by level."""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from hgrl.core.data_settings import AtLeastOne, Count, Fraction, NotNegative, Positive, Range
from hgrl.core.settings import ViewSettings
from hgrl.pretraining.methods.segsort import SegSort, SegSortSettings, segment_means
from hgrl.pretraining.objective import NO_NEGATIVE
from hgrl.sampling.views import Batch


class HSGViews(ViewSettings):
    """Random scale, crop, mirror image, jitter and greyscale, as the authors' loader for still images."""

    crop_area: Range = (0.44, 1.0)  # for a scale of up to 1.5
    jitter: Fraction = 0.8
    greyscale: Fraction = 0.2


class HSGSettings(SegSortSettings):
    concentration: Positive = 16.0  # the authors' script for COCO, as all below
    groups: tuple[AtLeastOne, ...] = Field((8, 4))  # of each level
    weight: NotNegative = 0.1  # of each level's loss; 0: SegSort
    # of K-means on the leaves' means, from the tree's cut into so many groups on; 0: the tree's groups
    group_iterations: Count = 10
    augment: HSGViews | None = HSGViews()  # None: as the profile has it


class HSG(SegSort):
    """SegSort's loss on the leaves, and `group_loss` at each level, where a segment's group is drawn in too.

    Their clustering transformers, which learn with two losses of their own which segments make a group, are
    simplified to spherical K-means of the leaves' mean directions, from the tree's cut on, for each level by
    itself: groups need not nest. A leaf has one group in both views, as their co-segmentation asks for, and
    views are told apart at the levels alone. Also simplified: a level contrasts segments of one image (theirs
    of the batch); all losses from the first step on (theirs after a first stage of SegSort alone)."""

    own = ("hsg", HSGSettings)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        own, views = self.hsg, len(batch.images)
        cells, segments, count = self.segments(batch)
        loss, accuracy = self.leaf_loss(cells, segments, count, views)
        told = {"nearest_is_own": accuracy}
        if not own.weight:
            return loss, told
        # both views of an image in one row: cells B, V * N, D; a view's segments have numbers of their own
        leaves = by_image(batch.labels.flatten(0, 1).flatten(1).long(), views)
        view = torch.arange(views, device=segments.device).repeat_interleave(batch.labels[0, 0].numel())
        cells, segments = by_image(cells, views), by_image(segments, views) + view * count
        logits, present = segment_logits(cells, segments, views * count, own.concentration)
        for most in own.groups:
            groups = leaf_groups(cells.detach(), leaves, batch.distances, most, own.group_iterations)
            level = group_loss(logits, present, segments, groups.gather(1, leaves))
            loss = loss + own.weight * level
            told[f"groups{most}_loss"] = level.detach()
        return loss, told


def by_image(rows: Tensor, views: int) -> Tensor:
    """(V * B, N, ...), view-major -> (B, V * N, ...)."""
    return rows.unflatten(0, (views, -1)).transpose(0, 1).flatten(1, 2)


def cut_leaves(distances: Tensor, most: int) -> Tensor:
    """The tree's cut into at most `most` groups: the first leaf of each leaf's group, (B, R) int64.

    distances: (B, R, R), ultrametric, padded with zeros. Of equal merges none is left out."""
    # a leaf that joins those before it adds one merge, at its least distance to them
    before = torch.ones_like(distances[0], dtype=torch.bool).tril(-1)
    merges = distances.masked_fill(~before, torch.inf).amin(2)[:, 1:].sort(1, descending=True).values
    height = merges[:, most - 1] if most <= merges.shape[1] else torch.zeros_like(distances[:, 0, 0])
    return (distances <= height.view(-1, 1, 1)).int().argmax(2)  # the first of them


@torch.no_grad()
def leaf_groups(cells: Tensor, leaves: Tensor, distances: Tensor, most: int, iterations: int) -> Tensor:
    """(B, R) int64, each leaf's group: spherical K-means of the leaves' means, from `cut_leaves` on.

    cells: (B, N, D) unit vectors; leaves: (B, N) int64. A leaf counts once, whatever its size; a group has
    the number of a leaf, and stays empty once it is."""
    count = distances.shape[-1]
    means, present = segment_means(cells, leaves, count)
    groups = cut_leaves(distances, most)
    with torch.autocast(cells.device.type, enabled=False):
        for _ in range(iterations):
            centres, _ = segment_means(means, groups, count)  # an absent leaf's mean is zero
            there = centres.new_zeros(present.shape).scatter_add(1, groups, present.to(centres.dtype)) > 0
            groups = (means @ centres.mT).masked_fill(~there.unsqueeze(1), -torch.inf).argmax(2)
    return groups


def segment_logits(
    cells: Tensor, segments: Tensor, count: int, concentration: float
) -> tuple[Tensor, Tensor]:
    """concentration * cosine of cells (B, N, D) and segments, (B, N, count); which have cells, (B, count)."""
    means, present = segment_means(cells, segments, count)
    with torch.autocast(cells.device.type, enabled=False):
        return concentration * cells @ means.mT, present


def group_loss(logits: Tensor, present: Tensor, segments: Tensor, groups: Tensor) -> Tensor:
    """The authors' "segsort+", mean of cells: -log of the part that the other segments of the own group have
    in the sum of exp(concentration * cosine) over these and the segments of all other groups.

    A segment that has its group to itself stands for these others. logits, present: `segment_logits`;
    segments: (B, N) int64 of each cell; groups: (B, N) int64, alike in a segment."""
    group_of = torch.full_like(present, -1, dtype=torch.long).scatter(1, segments, groups)  # B, count
    same = (groups.unsqueeze(2) == group_of.unsqueeze(1)) & present.unsqueeze(1)
    others = same.scatter(2, segments.unsqueeze(2), False)
    alone = ~others.any(2)
    own = logits.gather(2, segments.unsqueeze(2)).squeeze(2)
    attracted = torch.where(alone, own, logits.masked_fill(~others, NO_NEGATIVE).logsumexp(2))
    repelled = logits.masked_fill(same | ~present.unsqueeze(1), NO_NEGATIVE).logsumexp(2)
    return F.softplus(repelled - attracted).mean()
