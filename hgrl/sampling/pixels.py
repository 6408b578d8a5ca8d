"""Which pixels are drawn for which anchor: equations 2 and 3, over a whole batch and both views, on the
device.

Symbols in shapes: B images, V = 2 views, N = h * w cells of the embedding's grid, R regions (the largest tree
in the batch), A anchors an image. A cell of the grid is a "pixel" of the paper's equations: the embedding has
one vector there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hgrl.core.settings import SamplingSettings
from hgrl.sampling.order import WHOLE, BatchPart


@dataclass(frozen=True)
class PixelSample:
    """Indices into the (V * B * N) cells of a batch, view-major, and which of them count.

    Where the batch is one rank's share of a global one (W ranks), B is the share, and what other images give
    may lie on other ranks: the last cns columns of `negatives` then mean nothing, and `owners` and
    `elsewhere` say, for the anchors of all ranks, where to fetch them.
    """

    anchors: Tensor  # (B, A) int64
    positives: Tensor  # (B, A, 2 * positives) int64: first view, then augmented view
    negatives: Tensor  # (B, A, 2 * negatives + cns) int64: first view, augmented view, other images
    anchors_valid: Tensor  # (B, A) bool
    positives_valid: Tensor  # (B, A, 2 * positives) bool
    negatives_valid: Tensor  # (B, A, 2 * negatives + cns) bool
    # (W * B, A, cns) int64, the rank of each cell; None: one process has the whole batch
    owners: Tensor | None = None
    elsewhere: Tensor | None = None  # (W * B, A, cns) int64, its index among that rank's V * B * N cells


def positive_probability(distances: Tensor, sigma_p: float, present: Tensor) -> Tensor:
    """Equation 2: P(a pixel of region b is a positive of a pixel of region a).

    distances: (..., R, R) ultrametric d_T, in the height unit; present: (..., R) bool, the regions still
    visible.
    Returns (..., R, R): row a sums to 1 over the visible b. The similarity of a region with itself is 1.
    """
    similarity = torch.exp(-distances / sigma_p)
    similarity = similarity.masked_fill(_diagonal(distances), 1.0).masked_fill(~present.unsqueeze(-2), 0.0)
    return similarity / similarity.sum(-1, keepdim=True).clamp_min(torch.finfo(similarity.dtype).tiny)


def negative_probability(distances: Tensor, sigma_p: float, present: Tensor) -> Tensor:
    """Equation 3: P(a pixel of region b is a negative of a pixel of region a); zero for b = a.

    Shapes as in `positive_probability`. A row without any other visible region is all zeros: there is no
    negative to draw.
    """
    allowed = present.unsqueeze(-2) & ~_diagonal(distances)
    scaled = (distances / sigma_p).masked_fill(~allowed, -torch.inf)
    # the largest exponent taken out: no overflow
    weight = torch.exp(scaled - scaled.amax(-1, keepdim=True).clamp_min(0.0))
    return weight / weight.sum(-1, keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)


def sample_pixels(
    labels: Tensor,
    distances: Tensor,
    settings: SamplingSettings,
    cns: int,
    generator: torch.Generator | None = None,
    part: BatchPart = WHOLE,
    same_pixels: Tensor | None = None,
) -> PixelSample:
    """Draw anchors, positives and negatives for every image of a batch (section 3, "Pixel Sampling",
    "Augmented Reference Sampling").

    labels: (V=2, B, h, w) integer region of each cell, after each view's own crop, flip and resize.
    distances: (B, R, R) float, in the height unit, padded with anything where an image has fewer than R
    regions.
    cns: pixels of other images an anchor.

    A region that a view's crop has lost is never drawn from that view. Anchors are pixels of different
    regions, visible in the first view, those that the augmented view still shows first; an image with fewer
    regions has fewer anchors. Where the augmented view has lost the anchor's region its positives do not
    count: every other region would be a guess. An image of one region has no negatives of its own; a batch of
    one image has none from others. Draws are with replacement.

    part: which images of a global batch these are. Every rank makes the global batch's random draws and uses
    its rows, so that ranks together draw what one process would, without sending labels or distances.
    same_pixels: (B, h * w) int64 in [-1, h * w). The augmented view's positives and negatives are then not drawn
    but the first view's, at these cells of it; those at -1, which its crop has lost, do not count.
    """
    views, batch = labels.shape[:2]
    table = _RegionTable(labels.flatten(2), distances.shape[-1], part)
    # (B, A) each
    regions, anchors_valid = _draw_anchor_regions(table.present, settings, generator, part)
    anchors = table.pixel_in(0, regions.unsqueeze(-1), generator).squeeze(-1)
    drawn = [
        _draw_in_view(table, view, regions, anchors_valid, distances, settings, generator)
        for view in range(views if same_pixels is None else 1)
    ]
    if same_pixels is not None:
        drawn.append([_in_second_view(*pair, same_pixels) for pair in drawn[0]])
    owners, others = _draw_from_other_images(anchors, views, batch, table.cells, cns, generator, part)
    from_others = part.of(others)
    others_valid = anchors_valid.unsqueeze(-1).expand_as(from_others) & (batch * part.world > 1)
    positives, negatives = zip(*drawn, strict=True)
    positives, positives_valid = zip(*positives, strict=True)
    negatives, negatives_valid = zip(*negatives, (from_others, others_valid), strict=True)
    pixels = anchors, torch.cat(positives, -1), torch.cat(negatives, -1)
    valid = anchors_valid, torch.cat(positives_valid, -1), torch.cat(negatives_valid, -1)
    return PixelSample(*pixels, *valid, *((owners, others) if part.world > 1 else ()))


def _draw_in_view(
    table: _RegionTable,
    view: int,
    regions: Tensor,
    anchors_valid: Tensor,
    distances: Tensor,
    settings: SamplingSettings,
    generator: torch.Generator | None,
) -> list[tuple[Tensor, Tensor]]:
    """Positives and negatives of one view, for anchors of `regions` (B, A): indices and which count, (B, A, K)."""
    row, present = regions.unsqueeze(-1).expand(-1, -1, distances.shape[-1]), table.present[view]
    visible = present.gather(1, regions) & anchors_valid
    drawn = []
    for probability, count, counts in (
        (positive_probability, settings.positives, visible),
        (negative_probability, settings.negatives, anchors_valid),
    ):
        rows = probability(distances, settings.sigma_p, present).gather(1, row)  # (B, A, R)
        chosen, exists = _draw_regions(rows, count, generator, table.part)
        pixels = table.pixel_in(view, chosen, generator)
        drawn.append((pixels, (exists & counts).unsqueeze(-1).expand_as(chosen)))
    return drawn


def _in_second_view(pixels: Tensor, valid: Tensor, same_pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Where the second view shows cells of the first (B, A, K), and which of them count."""
    batch, cells = same_pixels.shape
    found = same_pixels.gather(1, (pixels % cells).flatten(1)).view_as(pixels)
    image = torch.arange(batch, batch * 2, device=pixels.device).view(-1, 1, 1)
    return image * cells + found.clamp_min(0), valid & (found >= 0)


class _RegionTable:
    """For each view and image: the cells sorted by region, so that a random cell of a region is one look-up."""

    def __init__(self, labels: Tensor, regions: int, part: BatchPart) -> None:
        self.part = part
        self.views, self.batch, self.cells = labels.shape
        self.order = labels.argsort(dim=-1, stable=True)  # (V, B, N)
        self.count = torch.zeros(*labels.shape[:2], regions, dtype=torch.int64, device=labels.device)
        self.count.scatter_add_(-1, labels.long(), torch.ones_like(labels, dtype=torch.int64))
        self.first = self.count.cumsum(-1) - self.count
        self.present = self.count > 0  # (V, B, R)

    def pixel_in(self, view: int, regions: Tensor, generator: torch.Generator | None) -> Tensor:
        """A uniformly random cell of each of `regions` (B, A, K), as an index into all V * B * N cells.

        Where the region is not there the index is within range and means nothing: the caller masks it.
        """
        flat = regions.flatten(1)
        count, first = self.count[view].gather(1, flat), self.first[view].gather(1, flat)
        uniform = self.part.uniform(flat.shape, generator, flat.device)
        offset = torch.minimum((uniform * count).long(), (count - 1).clamp_min(0))
        cell = self.order[view].gather(1, (first + offset).clamp_max(self.cells - 1))
        image = torch.arange(self.batch, device=flat.device).unsqueeze(1)
        return ((view * self.batch + image) * self.cells + cell).view(regions.shape)


def _draw_anchor_regions(
    present: Tensor, settings: SamplingSettings, generator: torch.Generator | None, part: BatchPart
) -> tuple[Tensor, Tensor]:
    """(V, B, R) presence -> regions (B, A) of the first view without replacement, by default those that both
    views show first; and whether each is there.
    """
    first, augmented = present[0], present[1:].all(0)
    key = part.uniform(first.shape, generator, first.device)
    if settings.anchor_choice == "visible":
        key = key + augmented.float()
    key = key.masked_fill(~first, -1.0)
    chosen = key.topk(min(settings.anchors, key.shape[-1]), dim=-1)
    return chosen.indices, chosen.values >= 0


def _draw_regions(
    probability: Tensor, count: int, generator: torch.Generator | None, part: BatchPart
) -> tuple[Tensor, Tensor]:
    """`count` regions with replacement from each row of (B, A, R); and whether the row had any: (B, A,
    count), (B, A).
    """
    exists = probability.sum(-1) > 0.5
    cumulative = probability.cumsum(-1)
    uniform = part.uniform((*probability.shape[:-1], count), generator, probability.device)
    target = uniform * cumulative[..., -1:]
    # right: an empty region has no width
    drawn = torch.searchsorted(cumulative.contiguous(), target, right=True)
    last = probability.shape[-1] - 1 - (probability.flip(-1) > 0).int().argmax(-1, keepdim=True)
    return torch.minimum(drawn, last), exists


def _draw_from_other_images(
    anchors: Tensor,
    views: int,
    batch: int,
    cells: int,
    cns: int,
    generator: torch.Generator | None,
    part: BatchPart,
) -> tuple[Tensor, Tensor]:
    """Neg(i)_cns: `cns` cells of other images, either view, for each anchor of the global batch. Ranks and
    indices, (W * B, A, cns) each.
    """
    images = batch * part.world
    shape, device = (images, anchors.shape[1], cns), anchors.device
    image = torch.arange(images, device=device).view(-1, 1, 1)
    step = torch.randint(1, max(images, 2), shape, generator=generator, device=device)
    view = torch.randint(views, shape, generator=generator, device=device)
    cell = torch.randint(cells, shape, generator=generator, device=device)
    other = (image + step) % images
    return other // batch, (view * batch + other % batch) * cells + cell


def _diagonal(distances: Tensor) -> Tensor:
    return torch.eye(distances.shape[-1], dtype=torch.bool, device=distances.device)
