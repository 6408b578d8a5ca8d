"""Which pixels are drawn for which anchor: equations 2 and 3, over a batch and both views, on the device.

Symbols in shapes: B images, V = 2 views, N = h * w cells of the embedding's grid, R regions, A anchors per
image. A cell of the grid is a "pixel" of the equations: the embedding has one vector there."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from hgrl.core.settings import SamplingSettings
from hgrl.sampling.order import WHOLE, BatchPart


@dataclass(frozen=True)
class PixelSample:
    """Indices into the (V * B * N) cells of a batch, view-major, and which of them count.

    In one of W ranks pixels of other images may lie on other ranks: then `owners` and `elsewhere` say where,
    for all ranks' anchors, and not the last cns columns of `negatives`."""

    anchors: Tensor  # (B, A) int64
    positives: Tensor  # (B, A, 2 * positives) int64: first view, then augmented view
    negatives: Tensor  # (B, A, 2 * negatives + cns) int64: first view, augmented view, other images
    anchors_valid: Tensor  # (B, A) bool
    positives_valid: Tensor  # (B, A, 2 * positives) bool
    negatives_valid: Tensor  # (B, A, 2 * negatives + cns) bool
    owners: Tensor | None = None  # (W * B, A, cns) int64, the rank of each cell; None for one process
    elsewhere: Tensor | None = None  # (W * B, A, cns) int64, its index among that rank's V * B * N cells


def positive_probability(distances: Tensor, sigma_p: float, present: Tensor) -> Tensor:
    """Equation 2: P(a pixel of region b is a positive of a pixel of region a).

    distances: (..., R, R) ultrametric d_T, in the height unit; present: (..., R) bool, the visible regions.
    Returns (..., R, R): row a sums to 1 over the visible b. The similarity of a region with itself is 1."""
    similarity = torch.exp(-distances / sigma_p)
    similarity = similarity.masked_fill(_diagonal(distances), 1.0).masked_fill(~present.unsqueeze(-2), 0.0)
    return similarity / similarity.sum(-1, keepdim=True).clamp_min(torch.finfo(similarity.dtype).tiny)


def negative_probability(distances: Tensor, sigma_p: float, present: Tensor) -> Tensor:
    """Equation 3: P(a pixel of region b is a negative of a pixel of region a); zero for b = a.

    Shapes as in `positive_probability`. A row without another visible region is all zeros."""
    allowed = present.unsqueeze(-2) & ~_diagonal(distances)
    scaled = (distances / sigma_p).masked_fill(~allowed, -torch.inf)
    weight = torch.exp(scaled - scaled.amax(-1, keepdim=True).clamp_min(0.0))  # does not overflow
    return weight / weight.sum(-1, keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)


def sample_pixels(
    labels: Tensor,
    distances: Tensor,
    settings: SamplingSettings,
    cns: int,
    generator: Generator | None = None,
    part: BatchPart = WHOLE,
    same_pixels: Tensor | None = None,
) -> PixelSample:
    """Draw anchors, positives and negatives for every image of a batch, with replacement (section 3, "Pixel
    Sampling", "Augmented Reference Sampling").

    labels: (V=2, B, h, w) integer region of each cell, after each view's own crop, flip and resize.
    distances: (B, R, R) float, in the height unit, padded with anything.
    cns: pixels of other images per anchor.
    part: which images of a global batch these are. Ranks make the global batch's random draws and use their
    rows: together they draw what one process would, without sending labels or distances.
    same_pixels: (B, h * w) int64 in [-1, h * w). Positives and negatives of the augmented view are then not
    drawn: they are the first view's, at these cells; those at -1, which the crop has lost, do not count.

    A region that a view's crop has lost is never drawn from that view. Anchors are pixels of different
    regions, visible in the first view; an image with fewer regions has fewer anchors. Where the augmented
    view has lost the anchor's region its positives do not count: every other region would be a guess. An
    image of one region has no negatives of its own; a batch of one image has none from others."""
    views, batch = labels.shape[:2]
    cells = _Cells(labels.flatten(2), distances.shape[-1], generator, part)
    regions, anchors_valid = _draw_anchor_regions(cells, settings)  # (B, A) each
    anchors = cells.of(0, regions.unsqueeze(-1)).squeeze(-1)
    drawn_views = range(views if same_pixels is None else 1)
    drawn = [_draw_in_view(cells, view, regions, anchors_valid, distances, settings) for view in drawn_views]
    if same_pixels is not None:
        drawn.append([_in_second_view(*pair, same_pixels) for pair in drawn[0]])
    owners, others = _draw_from_other_images(cells, anchors.shape[1], cns)
    own_others = part.of(others)
    others_valid = anchors_valid.unsqueeze(-1).expand_as(own_others) & (batch * part.world > 1)
    positives, negatives = zip(*drawn, strict=True)
    positives, positives_valid = zip(*positives, strict=True)
    negatives, negatives_valid = zip(*negatives, (own_others, others_valid), strict=True)
    pixels = anchors, torch.cat(positives, -1), torch.cat(negatives, -1)
    valid = anchors_valid, torch.cat(positives_valid, -1), torch.cat(negatives_valid, -1)
    return PixelSample(*pixels, *valid, *((owners, others) if part.world > 1 else ()))


class _Cells:
    """The cells of each view and image sorted by region, so that a random cell of a region is one look-up."""

    def __init__(self, labels: Tensor, regions: int, generator: Generator | None, part: BatchPart) -> None:
        self.views, self.batch, self.cells = labels.shape
        self.generator, self.part, self.device = generator, part, labels.device
        self.order = labels.argsort(dim=-1, stable=True)  # (V, B, N)
        self.count = torch.zeros(*labels.shape[:2], regions, dtype=torch.int64, device=labels.device)
        self.count.scatter_add_(-1, labels.long(), torch.ones_like(labels, dtype=torch.int64))
        self.first = self.count.cumsum(-1) - self.count
        self.present = self.count > 0  # (V, B, R)

    def uniform(self, images: int, *shape: int) -> Tensor:
        """Numbers in [0, 1) for this process's images: its rows of a global draw."""
        whole = (images * self.part.world, *shape)
        return self.part.of(torch.rand(whole, generator=self.generator, device=self.device))

    def of(self, view: int, regions: Tensor) -> Tensor:
        """A random cell of each of `regions` (B, A, K), as an index into all V * B * N cells; any, where the
        region is not there: the caller masks it."""
        flat = regions.flatten(1)
        count, first = self.count[view].gather(1, flat), self.first[view].gather(1, flat)
        offset = torch.minimum((self.uniform(*flat.shape) * count).long(), (count - 1).clamp_min(0))
        cell = self.order[view].gather(1, (first + offset).clamp_max(self.cells - 1))
        image = torch.arange(self.batch, device=self.device).unsqueeze(1)
        return ((view * self.batch + image) * self.cells + cell).view(regions.shape)


def _draw_anchor_regions(cells: _Cells, settings: SamplingSettings) -> tuple[Tensor, Tensor]:
    """Regions (B, A) of the first view without replacement, and whether each is there."""
    first, augmented = cells.present[0], cells.present[1:].all(0)
    key = cells.uniform(*first.shape)
    if settings.anchor_choice == "visible":  # in the augmented view too: those come first
        key = key + augmented.float()
    chosen = key.masked_fill(~first, -1.0).topk(min(settings.anchors, key.shape[-1]), dim=-1)
    return chosen.indices, chosen.values >= 0


def _draw_in_view(
    cells: _Cells, view: int, regions: Tensor, valid: Tensor, distances: Tensor, settings: SamplingSettings
) -> list[tuple[Tensor, Tensor]]:
    """Positives and negatives of a view for anchors of `regions`: indices, and which count, (B, A, K)."""
    row, present = regions.unsqueeze(-1).expand(-1, -1, distances.shape[-1]), cells.present[view]
    positive = positive_probability, settings.positives, present.gather(1, regions) & valid
    drawn = []
    negative = negative_probability, settings.negatives, valid
    for probability, count, counting in (positive, negative):
        rows = probability(distances, settings.sigma_p, present).gather(1, row)  # (B, A, R)
        chosen, exists = _draw_regions(rows, cells.uniform(*regions.shape, count))
        drawn.append((cells.of(view, chosen), (exists & counting).unsqueeze(-1).expand_as(chosen)))
    return drawn


def _draw_regions(probability: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Regions (B, A, K) by the rows of (B, A, R) from `uniform` (B, A, K), and which rows have any (B, A)."""
    cumulative = probability.cumsum(-1)
    target = uniform * cumulative[..., -1:]
    drawn = torch.searchsorted(cumulative.contiguous(), target, right=True)  # right: never an empty region
    last = probability.shape[-1] - 1 - (probability.flip(-1) > 0).int().argmax(-1, keepdim=True)
    return torch.minimum(drawn, last), probability.sum(-1) > 0.5


def _in_second_view(pixels: Tensor, valid: Tensor, same_pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Where the second view shows cells of the first (B, A, K), and which of them count."""
    batch, cells = same_pixels.shape
    found = same_pixels.gather(1, (pixels % cells).flatten(1)).view_as(pixels)
    image = torch.arange(batch, batch * 2, device=pixels.device).view(-1, 1, 1)
    return image * cells + found.clamp_min(0), valid & (found >= 0)


def _draw_from_other_images(cells: _Cells, anchors: int, cns: int) -> tuple[Tensor, Tensor]:
    """Neg(i)_cns, cells of other images, either view, per anchor: ranks and indices, (W * B, A, cns) each."""
    images = cells.batch * cells.part.world
    bounds = (1, max(images, 2)), (0, cells.views), (0, cells.cells)
    given = {"size": (images, anchors, cns), "generator": cells.generator, "device": cells.device}
    step, view, cell = (torch.randint(low, high, **given) for low, high in bounds)
    other = (torch.arange(images, device=cells.device).view(-1, 1, 1) + step) % images
    return other // cells.batch, (view * cells.batch + other % cells.batch) * cells.cells + cell


def _diagonal(distances: Tensor) -> Tensor:
    return torch.eye(distances.shape[-1], dtype=torch.bool, device=distances.device)
