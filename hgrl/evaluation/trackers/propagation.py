"""Labels of the first frame carried along by nearest neighbours in feature space (section 5.3)."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hgrl.core.labels import VOID
from hgrl.core.settings import Propagation
from hgrl.data.samples import Video
from hgrl.evaluation.features import FeatureFunction, equal_sized

CHUNK = 2_000_000  # similarities at once: 8 MB fit a cache, and bound memory
TILES = (64, 32, 16, 8, 4, 2)  # cells
ROWS = 60  # of the grid of 480p at stride 8, by which a radius counts
FRAMES_AT_ONCE = 8  # embedded together


@dataclass(frozen=True)
class Context:
    """An earlier frame: its lifted features (h, w, D) and the soft labels (h, w, n) of its cells."""

    keys: Tensor
    labels: Tensor
    anywhere: bool  # a neighbour may lie outside the radius


def lift(features: Tensor, coordinate_weight: float) -> tuple[Tensor, Tensor]:
    """Queries and keys, (h, w, C + 4), with the inner product sim = cos(F_i, F_j) - (w |p_i - p_j|)^2 / 2.

    features: (C, h, w), normalised here. p: a cell's (x, y) over the grid's longer side; w: the coordinate
    weight. "Features augmented with spatial coordinates" as we read it: the distance of [F / |F|, w p]."""
    _, h, w = features.shape
    unit = F.normalize(features.float(), dim=0).permute(1, 2, 0)  # h, w, C
    x, y = (torch.arange(count, device=unit.device) for count in (w, h))
    place = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1) * (coordinate_weight / max(h, w))  # h, w, 2
    bias = -place.square().sum(-1, keepdim=True) / 2  # h, w, 1
    one = torch.ones_like(bias)
    return torch.cat([unit, place, bias, one], -1), torch.cat([unit, place, one, bias], -1)


def vote(queries: Tensor, context: list[Context], how: Propagation) -> Tensor:
    """Soft labels (h, w, n) of a frame's cells: the weighted mean over each cell's nearest neighbours.

    The neighbours are exact, of all context frames together. Cells ask in square tiles, so that a tile's
    window, and with it the memory, stays small."""
    h, w, _ = queries.shape
    step, asked = _tile(context, how, h, w), []
    for top in range(0, h, step):
        lefts = range(0, w, step)
        row = [_vote_tile(queries, context, how, _span(top, h, step), _span(left, w, step)) for left in lefts]
        asked.append(torch.cat(row, 1))
    return torch.cat(asked)


def _span(start: int, end: int, step: int) -> range:
    return range(start, min(start + step, end))


def reach(how: Propagation, h: int, w: int) -> float:
    """The radius in cells of a grid; infinite where neighbours may lie anywhere."""
    return math.inf if how.radius is None else how.radius * min(h, w) / ROWS


def _tile(context: list[Context], how: Propagation, h: int, w: int) -> int:
    """The side of the largest tile whose similarities stay below CHUNK, in cells; 1 at least."""
    whole, far = sum(frame.anywhere for frame in context), min(reach(how, h, w), max(h, w))

    def similarities(side: int) -> float:
        window = min(h, side + 2 * far) * min(w, side + 2 * far)
        return side**2 * (whole * h * w + (len(context) - whole) * window)

    return next((side for side in TILES if similarities(side) <= CHUNK), 1)


def _vote_tile(queries: Tensor, context: list[Context], how: Propagation, ys: range, xs: range) -> Tensor:
    h, w, channels = queries.shape
    asking = queries[ys.start : ys.stop, xs.start : xs.stop].reshape(-1, channels)
    far, found = reach(how, h, w), []
    if whole := [frame for frame in context if frame.anywhere]:
        found.append(_nearest(asking, whole, how.neighbours, range(h), range(w)))
    if near := [frame for frame in context if not frame.anywhere]:
        rows, columns = _window(ys, h, far), _window(xs, w, far)
        outside = _outside((ys, xs), (rows, columns), far).to(asking.device)
        found.append(_nearest(asking, near, how.neighbours, rows, columns, outside))
    similarity, labels = (torch.cat(parts, 1) for parts in zip(*found, strict=True))  # Q, k and Q, k, n
    similarity, best = similarity.topk(min(how.neighbours, similarity.shape[1]))
    labels = labels.gather(1, best[..., None].expand(-1, -1, labels.shape[2]))
    return (_weights(similarity, how)[..., None] * labels).sum(1).view(len(ys), len(xs), -1)


def _window(span: range, size: int, far: float) -> range:
    """The rows or columns that are less than `far` away from one of a span's."""
    margin = math.ceil(min(far, size)) - 1
    return range(max(0, span.start - margin), min(size, span.stop + margin))


def _nearest(
    asking: Tensor, frames: list[Context], k: int, rows: range, columns: range, outside: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The k largest similarities (Q, k) to the cells of a window of all frames; their labels (Q, k, n)."""
    window = slice(rows.start, rows.stop), slice(columns.start, columns.stop)
    keys = torch.stack([frame.keys[window] for frame in frames]).flatten(0, 2)
    labels = torch.stack([frame.labels[window] for frame in frames]).flatten(0, 2)
    similarity = asking @ keys.T  # Q, T h w
    if outside is not None:
        similarity.view(len(asking), len(frames), -1).masked_fill_(outside[:, None], -torch.inf)
    values, index = top_k(similarity, k, len(columns))
    return values, labels[index]


def _outside(asking: tuple[range, range], seen: tuple[range, range], far: float) -> Tensor:
    """(Q, K) bool over the cells of two (rows, columns): True where they are `far` or more apart."""
    dy, dx = (
        (torch.tensor(own)[:, None] - torch.tensor(other)).square()
        for own, other in zip(asking, seen, strict=True)
    )
    return (dy[:, None, :, None] + dx[None, :, None, :] >= far**2).flatten(2).flatten(0, 1)


def _weights(similarity: Tensor, how: Propagation) -> Tensor:
    """(Q, k) weights of sum 1: the paper's similarities (negative ones as 0), or a softmax; -inf weighs 0."""
    if how.temperature is not None:
        return torch.softmax(similarity / how.temperature, -1)
    positive = similarity.clamp(min=1e-6)  # not 0: where all k are negative, they count alike
    positive = positive.masked_fill(similarity == -torch.inf, 0)
    return positive / positive.sum(-1, keepdim=True)


def top_k(similarity: Tensor, k: int, block: int) -> tuple[Tensor, Tensor]:
    """The k largest entries of each row of (Q, M) and their indices; M is a multiple of `block`.

    They lie in the k blocks with the largest maxima: several times faster on a CPU than `torch.topk`."""
    q, m = similarity.shape
    k = min(k, m)
    if m // block <= k:
        return similarity.topk(k)
    blocks = similarity.view(q, m // block, block)
    best = blocks.amax(-1).topk(k, sorted=False).indices  # Q, k
    candidates = blocks.gather(1, best[..., None].expand(-1, -1, block)).flatten(1)  # Q, k block
    values, index = candidates.topk(k)
    return values, best.gather(1, index // block) * block + index % block


def one_hot(mask: np.ndarray) -> np.ndarray:
    """(H, W) ids -> (n + 1, H, W) bool, background first; n is the largest id; void counts as background."""
    objects = np.where(mask == VOID, 0, mask)
    return objects == np.arange(objects.max() + 1)[:, None, None]


def propagate(features: Iterable[Tensor], first: np.ndarray, how: Propagation) -> list[np.ndarray]:
    """Masks of all frames from the first: y_t(i) = sum over k, j of sim(F_t(i), F_{t-k}(j)) y_{t-k}(j).

    features: one (C, h, w) grid per frame, read one at a time; first: (n, H, W) bool, one-hot,
    background first. Returns an (H, W) uint8 id map per frame, the first being the given one. Labels live on
    the feature grid and are soft (the first mask's by area); a frame's map is the largest of their bilinear
    enlargement. The two columns of table 3:
    paper: the last two frames, j among the 10 nearest of ALL their cells together (the paper's text could
    also mean 10 per frame);
    field (CRW, Jabri et al., NeurIPS 2020): the first frame, whole, and the last 20 within a radius, softmax
    weights, no coordinates. Not done: CRW's padding of the first frames with copies of the first."""
    masks, context, kept = [first.argmax(0).astype(np.uint8)], [], int(how.first_frame)
    for grid in features:
        queries, keys = lift(grid, how.coordinate_weight)
        if context:
            labels = vote(queries, context, how)
            masks.append(_enlarge(labels, first.shape[1:]))
        else:
            mask = torch.from_numpy(first).to(keys.device, torch.float32)
            labels = F.interpolate(mask[None], keys.shape[:2], mode="area")[0].permute(1, 2, 0)  # h, w, n
        everywhere = how.radius is None or (how.first_frame and not context)
        context.append(Context(keys, labels, everywhere))
        context = context[:kept] + context[kept:][-how.previous_frames :]
    return masks


def _enlarge(labels: Tensor, size: tuple[int, int]) -> np.ndarray:
    soft = F.interpolate(labels.permute(2, 0, 1)[None], size, mode="bilinear")[0]  # n, H, W
    return soft.max(0).indices.to(torch.uint8).cpu().numpy()  # on a CPU ten times faster than argmax(0)


def track_video(
    video: Video, feature_fn: FeatureFunction, short_side: int, how: Propagation
) -> list[np.ndarray]:
    """The feature tracker: frames at `short_side` through `feature_fn`, then `propagate`."""
    frames = ((video.frame(t, short_side),) for t in range(len(video)))
    grids = (grid for (batch,) in equal_sized(frames, FRAMES_AT_ONCE) for grid in feature_fn(batch))
    return propagate(grids, one_hot(video.mask(0)), how)


def neighbours_of(
    grid: Tensor, context: list[Tensor], cell: tuple[int, int], how: Propagation
) -> list[tuple[int, int, int]]:
    """(context index, y, x) of the cells that vote on a cell (y, x) of a grid, best first."""
    _, h, w = grid.shape
    weight = how.coordinate_weight
    query, keys = lift(grid, weight)[0][cell], torch.cat([lift(earlier, weight)[1] for earlier in context])
    _, index = top_k((keys @ query).view(1, -1), how.neighbours, w)
    return [(i // (h * w), i // w % h, i % w) for i in index[0].tolist()]
