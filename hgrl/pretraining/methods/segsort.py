"""SegSort (Hwang et al. 2019), unsupervised, from scratch: pixels are told their segment from the others."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from hgrl.core.data_settings import AtLeastOne, Fraction, Positive, Range, Section
from hgrl.core.settings import ViewSettings
from hgrl.data.normalise import normalise
from hgrl.pretraining.methods.base import Method
from hgrl.pretraining.ranks import batch_part, sum_over_ranks
from hgrl.sampling.views import Batch


class SegSortViews(ViewSettings):
    """Random scale, crop and mirror image, as the authors' unsupervised script; their colours stay."""

    crop_area: Range = (0.25, 1.0)  # for a scale of up to 2
    jitter: Fraction = 0.0


class SegSortSettings(Section):
    concentration: Positive = 10.0  # the paper's, and its code's
    # per side, of spherical K-means in each image; 1: segments are the regions, as in their unsupervised
    # script. Their supervised one has 5: 25 clusters, and pieces of one region would repel each other
    clusters: AtLeastOne = 1
    iterations: AtLeastOne = 10
    # whose segments contrast: an image's own (table 1: "None"), or those of all images (the authors' code)
    scope: Literal["image", "batch"] = "image"
    augment: SegSortViews | None = SegSortViews()  # None: as the profile has it


class SegSort(Method):
    """A von Mises-Fisher mixture of segments, which are the regions; with `clusters`, what spherical K-means
    on embedding and place makes of each.

    Regions are our trees' leaves, in place of the authors' over-segmentation: no hierarchy is read. Both
    views count as images of their own: as many forward passes as the paper's method; with `scope: batch`
    each is a batch of its own, lest a region repel itself in the other view. Not done: an ImageNet-trained
    ResNet-101 to start from, and the memory bank of the supervised variant."""

    own = ("segsort", SegSortSettings)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        loss, accuracy = self.leaf_loss(*self.segments(batch), len(batch.images))
        return loss, {"nearest_is_own": accuracy}

    @property
    def settings(self) -> SegSortSettings:
        return getattr(self, self.own[0])

    def segments(self, batch: Batch) -> tuple[Tensor, Tensor, int]:
        """Unit vectors (V * B, N, D), the segment of each (V * B, N) int64, and what that is below."""
        embedding = F.normalize(self.network(normalise(batch.flat_images)).float(), dim=1)
        regions = batch.labels.flatten(0, 1).flatten(1).long()  # V * B, N
        clusters = spherical_kmeans(embedding.detach(), self.settings.clusters, self.settings.iterations)
        segments = numbered(regions * self.settings.clusters**2 + clusters)
        count = min(segments.shape[1], batch.distances.shape[-1] * self.settings.clusters**2)
        return embedding.flatten(2).mT, segments, count

    def leaf_loss(self, cells: Tensor, segments: Tensor, count: int, views: int) -> tuple[Tensor, Tensor]:
        """`segment_loss` of what `segments` gives, among the segments of each image or of the whole batch."""
        shared = self.settings.scope == "batch"
        if shared:
            cells, segments, count = together(cells, segments, count, views)
        return segment_loss(cells, segments, count, self.settings.concentration, shared)


def together(cells: Tensor, segments: Tensor, count: int, views: int) -> tuple[Tensor, Tensor, int]:
    """(V * B, N, D), (V * B, N) -> (V, B * N, D), (V, B * N): all images of a view as one.

    Each image's segments have numbers of their own, below the returned count, apart from other ranks'."""
    images, part = len(segments) // views, batch_part()
    number = part.rank * images + torch.arange(images, device=segments.device).repeat(views)
    apart = segments + number.unsqueeze(1) * count
    count *= images * part.world
    return cells.reshape(views, -1, cells.shape[-1]), apart.reshape(views, -1), count


@torch.no_grad()
def spherical_kmeans(embedding: Tensor, clusters: int, iterations: int) -> Tensor:
    """(B, D, h, w) unit vectors -> (B, h * w) int64, for every cell one of its image's clusters**2 clusters.

    As in the authors' code: coordinates y, x in [0, 1) are appended and the vectors made unit again; clusters
    start as a grid of blocks; nearest is the largest cosine. A cluster without cells stays empty."""
    height, width = embedding.shape[-2:]
    sides = [torch.arange(side, device=embedding.device) for side in (height, width)]
    y, x = torch.meshgrid(sides, indexing="ij")
    place = torch.stack([y / height, x / width]).expand(len(embedding), 2, height, width)
    cells = F.normalize(torch.cat([embedding, place], 1), dim=1).flatten(2).mT  # B, N, D + 2
    blocks = (y * clusters // height) * clusters + x * clusters // width
    assigned = blocks.flatten().expand(len(embedding), -1)
    with torch.autocast(embedding.device.type, enabled=False):
        for _ in range(iterations if clusters > 1 else 0):
            centres, present = segment_means(cells, assigned, clusters**2)
            assigned = (cells @ centres.mT).masked_fill(~present.unsqueeze(1), -torch.inf).argmax(2)
    return assigned


def segment_means(cells: Tensor, segments: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Mean directions (B, count, D), zeros for an empty segment, and which segments have cells (B, count).

    cells: (B, N, D); segments: (B, N) int64 in [0, count)."""
    index, ones = segments.unsqueeze(-1).expand_as(cells), torch.ones_like(segments, dtype=cells.dtype)
    sums = cells.new_zeros(len(cells), count, cells.shape[-1]).scatter_add(1, index, cells)
    sizes = cells.new_zeros(len(cells), count).scatter_add(1, segments, ones)
    return F.normalize(sums, dim=-1), sizes > 0


def numbered(ids: Tensor) -> Tensor:
    """Each row's ids, (B, N) int64, replaced by their ranks 0, 1, 2, ... among the row's different ids."""
    ordered, place = ids.sort(1)
    ranks = torch.zeros_like(ids)
    ranks[:, 1:] = (ordered[:, 1:] != ordered[:, :-1]).cumsum(1)
    return torch.empty_like(ids).scatter_(1, place, ranks)


def segment_loss(
    cells: Tensor, segments: Tensor, count: int, concentration: float, shared: bool = False
) -> tuple[Tensor, Tensor]:
    """-log of the own segment's part of exp(concentration * cosine) over the row's segments, mean of cells.

    cells: (B, N, D) unit vectors; segments: (B, N) int64 in [0, count). Gradients flow through the means too.
    shared: other ranks' segments join, row by row, which have other numbers (`together`).
    Returns the loss and, detached, the fraction of cells whose nearest segment is their own."""
    means, present = segment_means(cells, segments, count)
    if shared:
        means, present = sum_over_ranks(means), sum_over_ranks(present.float()) > 0
    with torch.autocast(cells.device.type, enabled=False):  # B, N, count
        absent = cells.new_zeros(present.shape).masked_fill(~present, -torch.inf).unsqueeze(1)
        logits = torch.baddbmm(absent, cells, means.mT, alpha=concentration)
    nearest_is_own = (logits.argmax(2) == segments).float().mean()
    return F.cross_entropy(logits.flatten(0, 1), segments.flatten()), nearest_is_own.detach()
