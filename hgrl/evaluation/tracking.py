"""Instance mask tracking (section 5.3): labels of the first frame carried along by nearest neighbours in
feature space.

A tracker maps (video, settings) to one (H, W) uint8 id map a frame; `evaluate_tracking` scores any of them.
Three are here: features (learned, random or colour: `feature_tracker`), the first mask copied (`identity`),
and optical flow (`optical_flow`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import parent_process
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hgrl.core import progress
from hgrl.core.errors import InputError
from hgrl.core.labels import VOID
from hgrl.core.settings import TrackingSettings
from hgrl.evaluation.colour import FeatureFunction
from hgrl.metrics.video import mean_scores, object_scores, video_scores

if TYPE_CHECKING:
    from hgrl.data.samples import Video

Tracker = Callable[["Video", TrackingSettings], list[np.ndarray]]
# similarities held at once, 4 MB (a row of cells at least): fits a cache, and bounds memory whatever the
# frame
CHUNK = 1_000_000
BATCH = 8  # frames embedded together


@dataclass(frozen=True)
class Context:
    """An earlier frame: its lifted features (h, w, D) and the label shares (h, w, n) of its cells."""

    keys: Tensor
    labels: Tensor
    anywhere: bool  # a neighbour may lie outside the window (always in the paper's variant)


def lift(features: Tensor, coordinate_weight: float) -> tuple[Tensor, Tensor]:
    """Queries and keys, each (h, w, C + 4), whose inner product is sim(i, j) = cos(F_i, F_j) - (w |p_i -
    p_j|)^2 / 2.

    features: (C, h, w), normalised here. p is a cell's (x, y) over the grid's longer side, in [0, 1]; w the
    coordinate weight.
    Our reading of "features augmented with spatial coordinates": with a = [F / |F|, w p], sim = 1 - |a_i -
    a_j|^2 / 2. That orders neighbours by the distance of the augmented vectors, is their cosine for w = 0,
    and does not depend on where the origin of p is.
    """
    _, h, w = features.shape
    unit = F.normalize(features.float(), dim=0).permute(1, 2, 0)  # h, w, C
    y, x = torch.meshgrid(
        torch.arange(h, device=unit.device), torch.arange(w, device=unit.device), indexing="ij"
    )
    place = torch.stack([x, y], -1) * (coordinate_weight / max(h, w))  # h, w, 2
    bias = -place.square().sum(-1, keepdim=True) / 2  # h, w, 1
    one = torch.ones_like(bias)
    return torch.cat([unit, place, bias, one], -1), torch.cat([unit, place, one, bias], -1)


def vote(queries: Tensor, context: list[Context], settings: TrackingSettings) -> Tensor:
    """Label shares (h, w, n) of a frame's cells: the weighted mean over each cell's nearest neighbours in all
    context frames together.

    Of the context, the frames that vote from anywhere come first.
    Queries go by whole rows, at most `CHUNK` similarities at a time (one row at least); the neighbours are
    exact.
    """
    h, w, _ = queries.shape
    rows = max(1, CHUNK // (w * sum(frame.keys.shape[0] * w for frame in context)))
    return torch.cat(
        [_vote_rows(queries, context, settings, top, min(top + rows, h)) for top in range(0, h, rows)]
    )


def _vote_rows(
    queries: Tensor, context: list[Context], settings: TrackingSettings, top: int, bottom: int
) -> Tensor:
    h, w, channels = queries.shape
    # rows that the windowed frames can vote from
    window = (max(0, top - settings.radius), min(h, bottom + settings.radius))
    spans = [(0, h) if frame.anywhere else window for frame in context]
    keys = torch.cat([frame.keys[a:b] for frame, (a, b) in zip(context, spans)])  # R, w, D
    labels = torch.cat([frame.labels[a:b] for frame, (a, b) in zip(context, spans)])  # R, w, n
    similarity = queries[top:bottom].reshape(-1, channels) @ keys.reshape(-1, channels).T  # Q, R w
    whole = sum(frame.anywhere for frame in context) * h * w  # they come first
    if whole < similarity.shape[1]:
        far = _outside(range(top, bottom), range(*window), w, settings.radius).to(similarity.device)
        similarity[:, whole:].view(len(far), -1, far.shape[1]).masked_fill_(far[:, None], -torch.inf)
    nearest, index = top_k(similarity, settings.neighbours, w)  # Q, k
    shares = (_weights(nearest, settings)[..., None] * labels.flatten(0, 1)[index]).sum(1)  # Q, n
    return shares.view(bottom - top, w, -1)


def _outside(query_rows: range, key_rows: range, w: int, radius: int) -> Tensor:
    """(Q, K) bool over the cells of rows of width w: True where query and key are more than `radius` cells
    apart.
    """
    dy = (torch.tensor(query_rows)[:, None] - torch.tensor(key_rows)).square()  # q, r
    dx = (torch.arange(w)[:, None] - torch.arange(w)).square()  # w, w
    return (dy[:, None, :, None] + dx[None, :, None, :] > radius**2).flatten(2).flatten(0, 1)


def _weights(similarity: Tensor, settings: TrackingSettings) -> Tensor:
    """(Q, k) weights of sum 1: the paper's similarities themselves (negative ones count as 0), or the field's
    softmax after top-k.
    """
    if settings.variant == "field":
        return torch.softmax(similarity / settings.temperature, -1)
    positive = similarity.clamp(min=1e-6)  # not 0: where all k are negative, they count alike
    return positive / positive.sum(-1, keepdim=True)


def top_k(similarity: Tensor, k: int, block: int) -> tuple[Tensor, Tensor]:
    """The k largest entries of each row of (Q, M) and their indices; M is a multiple of `block`.

    Exact: the k largest lie in the k blocks with the largest maxima. Several times faster on a CPU than
    `torch.topk` on whole rows.
    """
    q, m = similarity.shape
    k = min(k, m)
    blocks = similarity.view(q, m // block, block)
    if m // block <= k:
        return similarity.topk(k)
    best = blocks.amax(-1).topk(k, sorted=False).indices  # Q, k
    candidates = blocks.gather(1, best[..., None].expand(-1, -1, block)).flatten(1)  # Q, k block
    values, index = candidates.topk(k)
    return values, best.gather(1, index // block) * block + index % block


def one_hot(mask: np.ndarray) -> np.ndarray:
    """(H, W) ids, 255 void -> (n + 1, H, W) bool, background first; n is the largest id; void counts as
    background.
    """
    objects = np.where(mask == VOID, 0, mask)
    return objects == np.arange(objects.max() + 1)[:, None, None]


def propagate(
    features: Iterable[Tensor], first_mask: np.ndarray, settings: TrackingSettings
) -> list[np.ndarray]:
    """Masks of all frames from the first frame's mask: y_t(i) = sum over k, j of sim(F_t(i), F_{t-k}(j))
    y_{t-k}(j).

    features: one (C, h, w) grid a frame, read one at a time; first_mask: (n, H, W) bool, one-hot, background
    first.
    Returns a (H, W) uint8 id map a frame, the first being the given one. Labels live on the feature grid as
    shares (the first mask by area); a frame's map is their bilinear enlargement's largest. Only the frames
    that still vote are kept:
    paper: the last `previous_frames`, j among the 10 nearest of ALL their cells together (the paper's text
    could also mean 10 a frame); with `first_frame`, which the paper does not have, the first frame stays
    beside them; field (CRW, Jabri et al., NeurIPS 2020): the first frame, whole, and the last
    `context_frames` within `radius` cells, softmax weights, no coordinates unless `field_coordinates`. Not
    done: CRW's padding of the first frames with copies of the first.
    """
    masks = [first_mask.argmax(0).astype(np.uint8)]
    context: list[Context] = []
    field = settings.variant == "field"
    for grid in features:
        queries, keys = lift(
            grid, settings.coordinate_weight if not field or settings.field_coordinates else 0.0
        )
        if context:
            labels = vote(queries, context, settings)
            masks.append(_enlarge(labels, first_mask.shape[1:]))
        else:
            mask = torch.from_numpy(first_mask).to(keys.device, torch.float32)
            # h, w, n
            labels = F.interpolate(mask[None], size=keys.shape[:2], mode="area")[0].permute(1, 2, 0)
        context.append(Context(keys, labels, anywhere=not field or not context))
        context = _still_voting(context, settings)
    return masks


def _still_voting(context: list[Context], settings: TrackingSettings) -> list[Context]:
    if settings.variant == "paper" and not settings.first_frame:
        return context[-settings.previous_frames :]
    last = settings.context_frames if settings.variant == "field" else settings.previous_frames
    return context[:1] + context[1:][-last:]


def _enlarge(labels: Tensor, size: tuple[int, int]) -> np.ndarray:
    # n, H, W
    shares = F.interpolate(labels.permute(2, 0, 1)[None], size=size, mode="bilinear", align_corners=False)[0]
    return shares.max(0).indices.to(torch.uint8).cpu().numpy()  # on a CPU ten times faster than argmax(0)


def track_video(video: Video, feature_fn: FeatureFunction, settings: TrackingSettings) -> list[np.ndarray]:
    """The feature tracker: frames at `short_side` times `finer` through `feature_fn`, then `propagate`; masks
    at the first mask's size.
    """
    scaled = {name: round(getattr(settings, name) * settings.finer) for name in ("short_side", "radius")}
    settings = settings.model_copy(update=scaled)
    return propagate(
        _frame_features(video, feature_fn, settings.short_side), one_hot(video.mask(0)), settings
    )


def _frame_features(video: Video, feature_fn: FeatureFunction, short_side: int) -> Iterator[Tensor]:
    for start in range(0, len(video), BATCH):
        stop = min(start + BATCH, len(video))
        yield from feature_fn(np.stack([video.frame(t, short_side) for t in range(start, stop)]))


def feature_tracker(feature_fn: FeatureFunction) -> Tracker:
    """`track_video` with its features fixed."""
    return lambda video, settings: track_video(video, feature_fn, settings)


def identity(video: Video, settings: TrackingSettings) -> list[np.ndarray]:
    """The first mask copied to every frame (table 3's first row)."""
    mask = one_hot(video.mask(0)).argmax(0).astype(np.uint8)
    return [mask] * len(video)


def optical_flow(video: Video, settings: TrackingSettings) -> list[np.ndarray]:
    """DIS flow (Kroeger et al., ECCV 2016; OpenCV's medium preset) at `short_side`, chained from frame to
    frame.

    Each pixel is traced back to the first frame through the flows t -> t-1 and takes the id it lands on; a
    trace that leaves the image stays at the border. Not done: occlusion checks.
    """
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    mask = one_hot(video.mask(0)).argmax(0).astype(np.uint8)
    previous = cv2.cvtColor(video.frame(0, settings.short_side), cv2.COLOR_RGB2GRAY)
    here = np.stack(np.meshgrid(*map(np.arange, previous.shape[::-1])), -1).astype(np.float32)  # h, w, (x, y)
    origin, masks = here, [mask]
    for t in range(1, len(video)):
        grey = cv2.cvtColor(video.frame(t, settings.short_side), cv2.COLOR_RGB2GRAY)
        origin = cv2.remap(
            origin,
            here + flow.calc(grey, previous, None),
            None,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        masks.append(_look_up(mask, origin))
        previous = grey
    return masks


def _look_up(mask: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """The id each pixel comes from: mask (H, W) at the points `origin` (h, w, 2) of a grid that may be
    coarser.
    """
    (h, w), (full_h, full_w) = origin.shape[:2], mask.shape
    scale = np.array([full_w / w, full_h / h], np.float32)
    points = (cv2.resize(origin, (full_w, full_h), interpolation=cv2.INTER_LINEAR) + 0.5) * scale - 0.5
    return cv2.remap(mask, points, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)


def evaluate_tracking(
    videos: Iterable[Video], tracker: Tracker, settings: TrackingSettings
) -> dict[str, object]:
    """J and F of a tracker: {j_mean, j_recall, j_decay, f_mean, f_recall, f_decay, jf_mean, per_sequence:
    {name: the same, objects}}.

    As DAVIS 2017: over all objects of all videos, in [0, 1] (decay in [-1, 1]); first and last frame not
    scored.
    Raises InputError naming the video that cannot be scored (see `object_scores`).
    """
    rows, per_sequence = [], {}
    for video in progress.bar(
        videos, desc="videos", leave=False, delay=5, disable=parent_process() is not None
    ):
        truth = [video.mask(t) for t in range(len(video))]
        try:
            objects = list(video_scores(object_scores(truth, tracker(video, settings))).values())
        except InputError as error:
            raise InputError(f"video {video.name}: {error}") from None
        per_sequence[video.name] = {**mean_scores(objects), "objects": len(objects)}
        rows.extend(objects)
    return {**mean_scores(rows), "per_sequence": per_sequence}


def neighbours_of(
    grid: Tensor, context: list[Tensor], cell: tuple[int, int], settings: TrackingSettings
) -> list[tuple[int, int, int]]:
    """(context index, y, x) of the cells that vote on one cell (y, x) of a (C, h, w) grid (paper's variant),
    most similar first.
    """
    _, h, w = grid.shape
    query = lift(grid, settings.coordinate_weight)[0][cell]
    keys = torch.cat([lift(earlier, settings.coordinate_weight)[1] for earlier in context])  # k h, w, D
    _, index = top_k((keys @ query).view(1, -1), settings.neighbours, w)
    return [(i // (h * w), i // w % h, i % w) for i in index[0].tolist()]


def middle_of_object(mask: np.ndarray, grid: tuple[int, int]) -> tuple[int, int]:
    """The grid's cell (y, x) that holds the largest object's pixel nearest to its mean; the middle cell if
    there is no object.
    """
    sizes = np.bincount(mask[mask != VOID], minlength=2)[1:]
    pixels = np.argwhere(mask == 1 + sizes.argmax()) if sizes.any() else np.array([mask.shape]) // 2
    nearest = pixels[((pixels - pixels.mean(0)) ** 2).sum(1).argmin()]
    return tuple(int(v) for v in nearest * grid // mask.shape)
