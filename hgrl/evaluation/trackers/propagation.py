"""Labels of the first frame carried along by nearest neighbours in feature space (section 5.3)."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hgrl.core.labels import VOID
from hgrl.core.settings import TrackingSettings
from hgrl.data.samples import Video
from hgrl.evaluation.features import FeatureFunction, equal_sized

CHUNK = 1_000_000  # similarities at once, of one row at least: 4 MB fit a cache, and bound memory
FRAMES_AT_ONCE = 8  # embedded together


@dataclass(frozen=True)
class Context:
    """An earlier frame: its lifted features (h, w, D) and the soft labels (h, w, n) of its cells."""

    keys: Tensor
    labels: Tensor
    anywhere: bool  # a neighbour may lie outside the window (always in the paper's variant)


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


def vote(queries: Tensor, context: list[Context], settings: TrackingSettings) -> Tensor:
    """Soft labels (h, w, n) of a frame's cells: the weighted mean over each cell's nearest neighbours.

    The neighbours are exact, of all context frames together; frames that vote from anywhere come first."""
    h, w, _ = queries.shape
    rows = max(1, CHUNK // (w * h * w * len(context)))
    parts = [range(top, min(top + rows, h)) for top in range(0, h, rows)]
    return torch.cat([_vote_rows(queries, context, settings, part) for part in parts])


def _vote_rows(queries: Tensor, context: list[Context], settings: TrackingSettings, part: range) -> Tensor:
    h, w, channels = queries.shape
    window = range(max(0, part.start - settings.radius), min(h, part.stop + settings.radius))  # rows in reach
    seen = [(frame, slice(0, h) if frame.anywhere else slice(window.start, window.stop)) for frame in context]
    keys = torch.cat([frame.keys[rows] for frame, rows in seen])  # R, w, D
    labels = torch.cat([frame.labels[rows] for frame, rows in seen])  # R, w, n
    asking = queries[part.start : part.stop].reshape(-1, channels)
    similarity = asking @ keys.reshape(-1, channels).T  # Q, R w
    whole = sum(frame.anywhere for frame in context) * h * w  # they come first
    if whole < similarity.shape[1]:
        far = _outside(part, window, w, settings.radius).to(similarity.device)
        similarity[:, whole:].view(len(far), -1, far.shape[1]).masked_fill_(far[:, None], -torch.inf)
    nearest, index = top_k(similarity, settings.neighbours, w)  # Q, k
    voted = (_weights(nearest, settings)[..., None] * labels.flatten(0, 1)[index]).sum(1)  # Q, n
    return voted.view(len(part), w, -1)


def _outside(query_rows: range, key_rows: range, w: int, radius: int) -> Tensor:
    """(Q, K) bool over the cells of rows of width w: True where they are over `radius` apart."""
    dy = (torch.tensor(query_rows)[:, None] - torch.tensor(key_rows)).square()  # q, r
    dx = (torch.arange(w)[:, None] - torch.arange(w)).square()  # w, w
    return (dy[:, None, :, None] + dx[None, :, None, :] > radius**2).flatten(2).flatten(0, 1)


def _weights(similarity: Tensor, settings: TrackingSettings) -> Tensor:
    """(Q, k) weights of sum 1: the paper's similarities (negative ones as 0), or the field's softmax."""
    if settings.variant == "field":
        return torch.softmax(similarity / settings.temperature, -1)
    positive = similarity.clamp(min=1e-6)  # not 0: where all k are negative, they count alike
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


def propagate(features: Iterable[Tensor], first: np.ndarray, settings: TrackingSettings) -> list[np.ndarray]:
    """Masks of all frames from the first: y_t(i) = sum over k, j of sim(F_t(i), F_{t-k}(j)) y_{t-k}(j).

    features: one (C, h, w) grid per frame, read one at a time; first: (n, H, W) bool, one-hot,
    background first. Returns an (H, W) uint8 id map per frame, the first being the given one. Labels live on
    the feature grid and are soft (the first mask's by area); a frame's map is the largest of their bilinear
    enlargement. Variants:
    paper: the last `previous_frames`, j among the 10 nearest of ALL their cells together (the paper's text
    could also mean 10 per frame);
    field (CRW, Jabri et al., NeurIPS 2020): the first frame, whole, and the last `context_frames` within
    `radius` cells, softmax weights, no coordinates unless `field_coordinates`. Not done: CRW's padding of the
    first frames with copies of the first."""
    masks, context, field = [first.argmax(0).astype(np.uint8)], [], settings.variant == "field"
    weight = settings.coordinate_weight if not field or settings.field_coordinates else 0.0
    for grid in features:
        queries, keys = lift(grid, weight)
        if context:
            labels = vote(queries, context, settings)
            masks.append(_enlarge(labels, first.shape[1:]))
        else:
            mask = torch.from_numpy(first).to(keys.device, torch.float32)
            labels = F.interpolate(mask[None], keys.shape[:2], mode="area")[0].permute(1, 2, 0)  # h, w, n
        context.append(Context(keys, labels, anywhere=not field or not context))
        if field:
            context = context[:1] + context[1:][-settings.context_frames :]
        else:
            context = context[-settings.previous_frames :]
    return masks


def _enlarge(labels: Tensor, size: tuple[int, int]) -> np.ndarray:
    soft = F.interpolate(labels.permute(2, 0, 1)[None], size, mode="bilinear")[0]  # n, H, W
    return soft.max(0).indices.to(torch.uint8).cpu().numpy()  # on a CPU ten times faster than argmax(0)


def track_video(video: Video, feature_fn: FeatureFunction, settings: TrackingSettings) -> list[np.ndarray]:
    """The feature tracker: frames at `short_side` times `finer` through `feature_fn`, then `propagate`."""
    scaled = {name: round(getattr(settings, name) * settings.finer) for name in ("short_side", "radius")}
    settings = settings.model_copy(update=scaled)
    frames = ((video.frame(t, settings.short_side),) for t in range(len(video)))
    grids = (grid for (batch,) in equal_sized(frames, FRAMES_AT_ONCE) for grid in feature_fn(batch))
    return propagate(grids, one_hot(video.mask(0)), settings)


def neighbours_of(
    grid: Tensor, context: list[Tensor], cell: tuple[int, int], settings: TrackingSettings
) -> list[tuple[int, int, int]]:
    """(context index, y, x) of the cells that vote on a cell (y, x) of a grid, best first."""
    _, h, w = grid.shape
    weight = settings.coordinate_weight
    query, keys = lift(grid, weight)[0][cell], torch.cat([lift(earlier, weight)[1] for earlier in context])
    _, index = top_k((keys @ query).view(1, -1), settings.neighbours, w)
    return [(i // (h * w), i // w % h, i % w) for i in index[0].tolist()]
