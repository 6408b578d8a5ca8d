"""SIFT Flow (Liu, Yuen, Torralba, TPAMI 2011): dense SIFT, matched by belief propagation from coarse to fine.

Flow (u, v) of pixels p minimises (the paper's equations 1 to 3)
    sum_p min(|s1(p) - s2(p + w)|_1, t) + gamma (|u| + |v|) + sum_pq min(alpha |du|, d) + min(alpha |dv|, d).
u and v are two layers of nodes joined by the data term alone, so that smoothness costs O(labels) a message by
the distance transform of a truncated L1 norm (Felzenszwalb and Huttenlocher, IJCV 2006). Constants, windows
and the number of messages are those of the authors' demo. Differs from it: messages are tree-reweighted
(TRW-S; Kolmogorov, TPAMI 2006) where theirs are plain (BP-S), which settled at twice to six times the energy
when we tried it; and messages start anew at every level, without their second, inner hierarchy."""

from functools import lru_cache

import cv2
import numba
import numpy as np

CELL = 3  # px; 4 x 4 cells of 8 directions are a descriptor
DIRECTIONS = 8
SHARPNESS = 9  # the exponent of a direction's cosine
ALPHA, TRUNCATION, GAMMA = 2 * 255.0, 40 * 255.0, 0.005 * 255.0
LEVELS = 4
WINDOW, TOP_WINDOW = 2, 10  # labels are -window .. window around the coarser level's flow
# messages along every edge; theirs are 30 and 60 sweeps of one of the two layers each
ITERATIONS, TOP_ITERATIONS = 16, 30
SHARE = np.float32(1 / 3)  # of a belief in a message: a node has 3 neighbours before and 3 behind it


def sift_flow(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """(h, w, 2) float32 (u, v): what `image` shows at (x, y) is at (x + u, y + v) of `reference`.

    Both (h, w, 3) uint8 RGB of one size. Displacements are whole pixels, as in the paper."""
    pyramids = [_pyramid(image.tobytes(), image.shape), _pyramid(reference.tobytes(), reference.shape)]
    flow = np.zeros((*pyramids[0][-1].shape[:2], 2), np.int32)
    for level in reversed(range(len(pyramids[0]))):
        top, (first, second) = level == len(pyramids[0]) - 1, (pyramid[level] for pyramid in pyramids)
        if not top:
            size = first.shape[1::-1]
            flow = np.rint(2 * cv2.resize(flow.astype(np.float32), size, interpolation=cv2.INTER_CUBIC))
        window, count = (TOP_WINDOW, TOP_ITERATIONS) if top else (WINDOW + level, ITERATIONS)
        flow = matched(first, second, flow.astype(np.int32), window, count, GAMMA * 2**level)
    return flow.astype(np.float32)


def dense_sift(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> (H, W, 128) uint8: every pixel's SIFT descriptor at one scale and upright.

    A direction's share of a gradient is its cosine to the 9th power; cells are boxes of 3 px with soft edges.
    As the authors' `mexDenseSIFT`, whose windows lie within half a pixel of these."""
    colours = image.astype(np.float32) / 255
    slope = np.array([1, -8, 0, 8, -1], np.float32) / 12
    one, border = np.ones(1, np.float32), {"borderType": cv2.BORDER_REPLICATE}
    dx = cv2.sepFilter2D(colours, -1, slope, one, **border)
    dy = cv2.sepFilter2D(colours, -1, one, slope, **border)
    strongest = (dx**2 + dy**2).argmax(-1)[..., None]  # of the colour channels
    dx, dy = (np.take_along_axis(part, strongest, -1)[..., 0] for part in (dx, dy))
    strength = np.maximum(np.hypot(dx, dy), 1e-12)
    soft = np.array([0.25, 1, 1, 1, 0.25], np.float32)
    bands = []
    for angle in 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS:
        cosine = (np.cos(angle) * dx + np.sin(angle) * dy) / strength
        band = strength * np.maximum(cosine, 0) ** SHARPNESS
        bands.append(cv2.sepFilter2D(band.astype(np.float32), -1, soft, soft, **border))
    return _descriptors(np.stack(bands, -1))


@numba.njit(nogil=True, cache=True)
def _descriptors(bands: np.ndarray) -> np.ndarray:
    """(H, W, 8) sums over cells -> (H, W, 128) uint8; cells' centres are at -4, -1, 2 and 5 px."""
    height, width, directions = bands.shape
    found = np.empty((height, width, 16 * directions), np.uint8)
    values = np.empty(16 * directions, np.float32)
    for y in range(height):
        for x in range(width):
            at, total = 0, np.float32(0)
            for i in range(-1, 3):
                for j in range(-1, 3):
                    row = min(max(y + i * CELL - 1, 0), height - 1)
                    column = min(max(x + j * CELL - 1, 0), width - 1)
                    for k in range(directions):
                        values[at] = bands[row, column, k]
                        total += values[at] ** 2
                        at += 1
            scale = np.float32(255) / (np.sqrt(total) + np.float32(0.01))
            for k in range(16 * directions):
                found[y, x, k] = min(values[k] * scale, np.float32(255))
    return found


@lru_cache(
    maxsize=8
)  # a tracker asks for a frame as image, then as reference, and for the first frame always
def _pyramid(pixels: bytes, shape: tuple[int, ...]) -> list[np.ndarray]:
    levels = [dense_sift(np.frombuffer(pixels, np.uint8).reshape(shape))]
    while len(levels) < LEVELS and min(levels[-1].shape[:2]) >= 8:
        levels.append(_halved(levels[-1]))
    return levels


def _halved(descriptors: np.ndarray) -> np.ndarray:
    """Half the size, rounded up: smoothed, then means of 2 x 2 pixels."""
    smooth = cv2.GaussianBlur(descriptors, (5, 5), 0.67, borderType=cv2.BORDER_REPLICATE).astype(np.uint16)
    odd = [(0, side % 2) for side in smooth.shape[:2]]
    smooth = np.pad(smooth, (*odd, (0, 0)), mode="edge")
    total = smooth[::2, ::2] + smooth[1::2, ::2] + smooth[::2, 1::2] + smooth[1::2, 1::2]
    return ((total + 2) // 4).astype(np.uint8)


def matched(
    first: np.ndarray, second: np.ndarray, start: np.ndarray, window: int, iterations: int, gamma: float
) -> np.ndarray:
    """One level: the flow (h, w, 2) int32 within `window` of `start`, by `iterations` of belief propagation.

    first, second: (h, w, 128) uint8 descriptors."""
    cost = data_term(first, second, start, window)
    return propagate_beliefs(cost, start, iterations, ALPHA, TRUNCATION, gamma)


def data_term(first: np.ndarray, second: np.ndarray, start: np.ndarray, window: int) -> np.ndarray:
    """(h, w, 2 window + 1, 2 window + 1) float32, v before u: L1 distances, truncated at their median.

    A label that leads out of the image costs the median. The paper leaves the threshold open; the median is
    the authors' code's."""
    cost = _distances(first, second, start, window)
    inside = cost >= 0
    most = np.float32(np.median(cost[inside])) if inside.any() else np.float32(0)
    return np.where(inside, np.minimum(cost, most), most)


@numba.njit(nogil=True, cache=True)
def _distances(first: np.ndarray, second: np.ndarray, start: np.ndarray, window: int) -> np.ndarray:
    """L1 distances for `data_term`; -1 out of the image."""
    height, width, channels = first.shape
    labels = 2 * window + 1
    cost = np.full((height, width, labels, labels), np.float32(-1))
    for y in range(height):
        for x in range(width):
            own = first[y, x]
            for i in range(labels):
                row = y + start[y, x, 1] + i - window
                if row < 0 or row >= height:
                    continue
                for j in range(labels):
                    column = x + start[y, x, 0] + j - window
                    if 0 <= column < width:
                        other, total = second[row, column], np.int32(0)
                        for k in range(channels):
                            total += abs(np.int32(own[k]) - np.int32(other[k]))
                        cost[y, x, i, j] = total
    return cost


def propagate_beliefs(
    cost: np.ndarray, start: np.ndarray, iterations: int, alpha: float, truncation: float, gamma: float
) -> np.ndarray:
    """The flow (h, w, 2) int32, start + label - window, of each node's least belief.

    cost: (h, w, L, L) float32, v before u. An iteration sends one message along every edge, in reading order
    and against it in turns."""
    window = cost.shape[2] // 2
    offsets = np.ascontiguousarray(start.transpose(2, 0, 1))
    labels = np.arange(-window, window + 1) + offsets[..., None]  # 2, h, w, L
    ranges = (gamma * np.abs(labels)).astype(np.float32)
    # to every node from its left, right, above, below, and from the other layer
    messages = np.zeros((*offsets.shape, 5, cost.shape[2]), np.float32)
    for sweep in range(iterations):
        _sweep(cost, ranges, offsets, messages, sweep % 2 == 0, np.float32(alpha), np.float32(truncation))
    found = (ranges + messages.sum(3)).argmin(-1) - window + offsets
    return found.transpose(1, 2, 0).astype(np.int32)


@numba.njit(nogil=True, cache=True)
def _sweep(cost, ranges, offsets, messages, forward, alpha, truncation):
    """Messages to all later nodes if `forward`, else to all earlier ones, in place; u comes before v."""
    _, height, width, labels = ranges.shape
    sent, belief = np.empty(labels, np.float32), np.empty(labels, np.float32)
    step, back, last = (1, 1, 1) if forward else (-1, 0, 0)  # back: the reply's place, left out of the sum
    for n in range(2 * height * width):
        at = n if forward else 2 * height * width - 1 - n
        layer, y, x = at % 2, at // 2 // width, at // 2 % width
        inbox, offset = messages[layer, y, x], offsets[layer, y, x]
        for k in range(labels):
            total = ranges[layer, y, x, k]
            for i in range(5):
                total += inbox[i, k]
            belief[k] = total * SHARE
        if layer != last:
            for k in range(labels):
                sent[k] = belief[k] - inbox[4, k]
            _send_across(sent, cost[y, x], messages[1 - layer, y, x, 4], layer)
        if 0 <= x + step < width:
            for k in range(labels):
                sent[k] = belief[k] - inbox[back, k]
            shift = offsets[layer, y, x + step] - offset
            _send(sent, messages[layer, y, x + step, 1 - back], shift, alpha, truncation)
        if 0 <= y + step < height:
            for k in range(labels):
                sent[k] = belief[k] - inbox[2 + back, k]
            shift = offsets[layer, y + step, x] - offset
            _send(sent, messages[layer, y + step, x, 3 - back], shift, alpha, truncation)


@numba.njit(nogil=True, cache=True)
def _send(sent, message, shift, alpha, truncation):
    """message(l) = min over k of sent(k) + min(alpha |l + shift - k|, truncation), less its minimum."""
    labels = len(sent)
    most = sent.min() + truncation
    for k in range(1, labels):
        sent[k] = min(sent[k], sent[k - 1] + alpha)
    for k in range(labels - 2, -1, -1):
        sent[k] = min(sent[k], sent[k + 1] + alpha)
    for k in range(labels):
        nearest = min(max(k + shift, 0), labels - 1)  # beyond the window cost grows by alpha a label
        message[k] = min(sent[nearest] + alpha * abs(k + shift - nearest), most)
    message -= message.min()


@numba.njit(nogil=True, cache=True)
def _send_across(gathered, cost, message, layer):
    """message(b) = min over a of gathered(a) + cost(a, b), less its minimum; cost is (v, u)."""
    labels = len(gathered)
    message[:] = np.inf
    for i in range(labels):
        for j in range(labels):
            if layer == 0:  # from u to v
                message[i] = min(message[i], gathered[j] + cost[i, j])
            else:
                message[j] = min(message[j], gathered[i] + cost[i, j])
    message -= message.min()
