"""Growing one tree of a structured forest: numba kernels over feature maps and human segmentations.

Dollar & Zitnick, "Fast edge detection using structured forests", sections 3 and 4.1: a node maps the 16x16
masks to two classes (the sign of the first principal component of "do these two pixels lie in one segment?"
over 256 pairs) and takes the best Gini split over random features; a leaf stores the mask nearest to the
mean. Features are read from the maps, never tabulated (7 GB per tree of 1M patches). Not done: more than two
classes; an exhaustive search over 256 patches (255 even thresholds on at most 20,000 decide)."""

from typing import NamedTuple

import numba
import numpy as np

PAIRS = 256  # pixel pairs that describe a mask
DECIDING = 20_000  # patches that choose a node's split; all of them then follow it
COMPONENT = 512  # patches that the principal component is computed from
EXACT = 256  # nodes up to this size search every threshold
BINS = 256  # larger ones search BINS - 1
POWER_STEPS = 8  # power iterations for the principal component


class Patches(NamedTuple):
    """Training patches as offsets into flat arrays; n is their number."""

    regular: np.ndarray  # float32, flat: all images' (h, w, 13) maps
    similarity: np.ndarray  # float32, flat, same layout
    segments: np.ndarray  # uint16, flat: all annotations (H, W)
    at_map: np.ndarray  # (n,) int64: where the patch's first cell lies in the maps
    map_width: np.ndarray  # (n,) int32: cells in a row of its image
    at_mask: np.ndarray  # (n,) int64: where the mask's first pixel lies in `segments`
    mask_width: np.ndarray  # (n,) int32: pixels in a row of its annotation


class GrownTree(NamedTuple):
    """m nodes; a node's children are `child` and `child + 1`, 0 for a leaf."""

    child: np.ndarray  # (m,) int32
    feature: np.ndarray  # (m,) int32
    threshold: np.ndarray  # (m,) float32, float16-exact: feature < threshold goes to `child`
    medoid: np.ndarray  # (m,) int32: the patch whose mask a leaf stores; -1 inside


@numba.njit(nogil=True, cache=True)
def feature_values(patches, rows, where, values):
    """values[f, i] = feature where[f] (rows of `feature_table`) of patch rows[i]."""
    count = len(rows)
    base, stride = np.empty((2, count), np.int64)  # gathered once: memory, not arithmetic, is the cost here
    for i in range(count):
        base[i], stride[i] = patches.at_map[rows[i]], patches.map_width[rows[i]] * 13
    for f in range(len(where)):
        row, first = where[f, 0], where[f, 1] * 13 + where[f, 4]
        row2, second = where[f, 2], where[f, 3] * 13 + where[f, 4]
        if row2 < 0:
            for i in range(count):
                values[f, i] = patches.regular[base[i] + row * stride[i] + first]
        else:
            for i in range(count):
                one, two = base[i] + row * stride[i] + first, base[i] + row2 * stride[i] + second
                values[f, i] = patches.similarity[one] - patches.similarity[two]


@numba.njit(nogil=True, cache=True)
def pair_bits(patches, rows, pixels, bits):
    """bits[i, p] = 1 when the two pixels of pair p lie in one segment of patch rows[i]'s mask, else 0."""
    mask = np.empty(256, np.uint16)
    for i in range(len(rows)):
        at, width = patches.at_mask[rows[i]], patches.mask_width[rows[i]]
        for y in range(16):
            for x in range(16):  # a slice assignment costs 5 times as much here
                mask[16 * y + x] = patches.segments[at + y * width + x]
        for p in range(len(pixels)):
            bits[i, p] = np.float32(mask[pixels[p, 0] & 255] == mask[pixels[p, 1] & 255])


@numba.njit(nogil=True, cache=True, fastmath=True)
def project(bits, mean, direction, out):
    """out[i] = (bits[i] - mean) . direction"""
    shift = np.float32(0.0)
    for p in range(bits.shape[1]):
        shift += mean[p] * direction[p]
    for i in range(bits.shape[0]):
        total = np.float32(0.0)
        for p in range(bits.shape[1]):
            total += bits[i, p] * direction[p]
        out[i] = total - shift


@numba.njit(nogil=True, cache=True, fastmath=True)
def principal_component(bits, mean):
    """First principal component of the rows of bits, by power iteration; zeros if all agree."""
    direction = bits[farthest(bits, mean, 1.0)] - mean
    score = np.empty(bits.shape[0], np.float32)
    for _ in range(POWER_STEPS):
        norm = np.float32(0.0)
        for p in range(len(direction)):
            norm += direction[p] * direction[p]
        if norm < 1e-12:
            direction[:] = 0
            break
        direction /= np.float32(np.sqrt(norm))
        project(bits, mean, direction, score)
        direction[:] = 0
        for i in range(bits.shape[0]):
            for p in range(bits.shape[1]):
                direction[p] += score[i] * (bits[i, p] - mean[p])
    return direction


@numba.njit(nogil=True, cache=True, fastmath=True)
def farthest(bits, mean, sign):
    """The row farthest from the mean (sign 1) or nearest to it (sign -1); the first of equals."""
    best, best_distance = 0, -np.float32(np.inf)
    for i in range(bits.shape[0]):
        distance = np.float32(0.0)
        for p in range(bits.shape[1]):
            distance += (bits[i, p] - mean[p]) ** 2
        if sign * distance > best_distance:
            best, best_distance = i, sign * distance
    return best


@numba.njit(nogil=True, cache=True)
def best_cut(left, left_ones, count, ones, least):
    """(purity, number) of the first of the best cuts, by the patches and ones to their left; purity -1: none.

    Purity is the sum over both sides of (squared class counts / side's count): count minus Gini impurity."""
    best, number = -1.0, 0
    for k in range(len(left)):
        right, right_ones = count - left[k], ones - left_ones[k]
        if left[k] >= least and right >= least:
            now = (left_ones[k] ** 2 + (left[k] - left_ones[k]) ** 2) / left[k]
            now += (right_ones**2 + (right - right_ones) ** 2) / right
            if now > best:
                best, number = now, k
    return best, number


@numba.njit(nogil=True, cache=True)
def exact_split(values, classes, least):
    """(purity, threshold) of the best split into two sides of at least `least`; purity -1 without one."""
    order = np.argsort(values)
    ordered, ones = values[order], np.cumsum(classes[order])
    cuts = np.flatnonzero(ordered[:-1] < ordered[1:])
    best, number = best_cut(cuts + 1, ones[cuts], len(values), ones[-1], least)
    if best < 0:
        return best, np.float32(0.0)
    return best, np.float32(0.5) * (ordered[cuts[number]] + ordered[cuts[number] + 1])


@numba.njit(nogil=True, cache=True)
def binned_split(values, classes, least):
    """The same among BINS - 1 evenly spaced thresholds."""
    low, high = values.min(), values.max()
    if not high > low:
        return -1.0, np.float32(0.0)
    total, positive = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
    scale = np.float32(BINS) / (high - low)
    for i in range(len(values)):
        k = min(int((values[i] - low) * scale), BINS - 1)
        total[k] += 1
        positive[k] += classes[i]
    left, left_ones = np.cumsum(total[:-1]), np.cumsum(positive[:-1])
    best, number = best_cut(left, left_ones, len(values), positive.sum(), least)
    return best, low + np.float32(number + 1) / scale


@numba.njit(nogil=True, cache=True)
def draw_rows(rows, count):
    """At most `count` of the rows, evenly spread and in order."""
    if len(rows) <= count:
        return rows
    step = len(rows) / count
    chosen = np.empty(count, rows.dtype)
    for i in range(count):
        chosen[i] = rows[min(int((i + np.random.random()) * step), len(rows) - 1)]
    return chosen


@numba.njit(nogil=True, cache=True)
def partition(values, rows, threshold, spare):
    """Reorder rows in place, those under the threshold first, each side in its order; how many are under."""
    left, right = 0, 0
    for i in range(len(rows)):
        if values[i] < threshold:
            rows[left] = rows[i]
            left += 1
        else:
            spare[right] = rows[i]
            right += 1
    rows[left:] = spare[:right]
    return left


@numba.njit(nogil=True, cache=True)
def node_split(patches, rows, table, subset, least):
    """(feature or -1, threshold, medoid row) of one node."""
    some, pixels = draw_rows(rows, DECIDING), np.empty((PAIRS, 2), np.int64)
    for p in range(PAIRS):  # two different pixels of a mask, 16 row + column
        pixels[p, 0] = np.random.randint(0, 256)
        pixels[p, 1] = (pixels[p, 0] + np.random.randint(1, 256)) % 256
    bits, score = np.empty((len(some), PAIRS), np.float32), np.empty(len(some), np.float32)
    pair_bits(patches, some, pixels, bits)
    mean = bits.sum(0) * (np.float32(1) / np.float32(len(bits)))  # sums of 0 and 1: exact in any order
    medoid = some[farthest(bits, mean, -1.0)]
    few = bits[:: max(1, len(bits) // COMPONENT)].copy()  # contiguous, or its loops are not vectorised
    project(bits, mean, principal_component(few, mean), score)
    classes = (score < 0).astype(np.int64)
    ones = classes.sum()
    if len(rows) < 2 * least or ones == 0 or ones == len(some):
        return -1, np.float32(0.0), medoid
    count = round(np.sqrt(len(subset)))
    for i in range(count):
        j = np.random.randint(i, len(subset))
        subset[i], subset[j] = subset[j], subset[i]
    values = np.empty((count, len(some)), np.float32)
    feature_values(patches, some, table[subset[:count]], values)
    best, feature, threshold = -1.0, -1, np.float32(0.0)
    for f in range(count):
        if len(some) <= EXACT:
            now, cut = exact_split(values[f], classes, least)
        else:
            now, cut = binned_split(values[f], classes, least)
        if now > best:
            best, feature, threshold = now, subset[f], cut
    gain = best - (ones**2 + (len(some) - ones) ** 2) / len(some)
    return feature if gain >= 1e-6 * len(some) else -1, threshold, medoid


@numba.njit(nogil=True, cache=True)
def round_half(value):
    """A float32 rounded to float16's 11 significant bits (magnitudes under 2**-14 to multiples of 2**-24)."""
    if value == 0:
        return value
    exponent = max(np.floor(np.log2(abs(value))), -14.0)
    unit = np.float32(2.0 ** (exponent - 10))
    return np.float32(np.round(value / unit) * unit)


@numba.njit(nogil=True, cache=True)
def grow(patches, table, subset, least, max_depth, seed):
    """One tree over all patches: (child, feature, threshold, medoid) of GrownTree. `subset` is shuffled."""
    np.random.seed(seed)
    count = len(patches.at_map)
    room = 2 * (count // least) + 3
    child, feature = np.zeros(room, np.int32), np.zeros(room, np.int32)
    threshold, medoid = np.zeros(room, np.float32), np.full(room, -1, np.int32)
    rows, spare = np.arange(count).astype(np.int32), np.empty(count, np.int32)
    values = np.empty((1, count), np.float32)
    begin, end, depth = np.zeros(room, np.int64), np.zeros(room, np.int64), np.zeros(room, np.int32)
    end[0], nodes, node = count, 1, 0
    while node < nodes:
        mine = rows[begin[node] : end[node]]
        chosen, cut, middle = node_split(patches, mine, table, subset, least)
        left = 0
        if chosen >= 0 and depth[node] < max_depth:
            cut = round_half(cut)
            feature_values(patches, mine, table[chosen : chosen + 1], values)
            left = partition(values[0], mine, cut, spare)
        if left < least or len(mine) - left < least:
            medoid[node] = middle
        else:
            child[node], feature[node], threshold[node] = nodes, chosen, cut
            begin[nodes], end[nodes] = begin[node], begin[node] + left
            begin[nodes + 1], end[nodes + 1] = end[nodes], end[node]
            depth[nodes : nodes + 2] = depth[node] + 1
            nodes += 2
        node += 1
    return child[:nodes].copy(), feature[:nodes].copy(), threshold[:nodes].copy(), medoid[:nodes].copy()
