"""Sharpening (numba kernels): each leaf's mask is fitted to the colours under it before its edges count.

Dollar & Zitnick, "Fast edge detection using structured forests" (TPAMI 2015): a leaf answers for many
patches, so its boundaries are right to a few pixels only. Each segment gets the mean colour of its pixels;
pixels near a boundary then join the neighbouring segment of the nearest mean, in CIELUV (their code: RGB)."""

import cv2
import numba
import numpy as np

from hgrl.grouping.forest.features import LABEL, MARGIN, smooth

PIXELS = LABEL * LABEL  # a flat mask is row after row
SAMPLED = 2  # px: a segment's colour is the mean over every second row and column


def colours(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB as CIELUV, float32, smoothed by a triangle of radius 1, to compare pixels by."""
    return smooth(cv2.cvtColor(image.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2Luv), 1)


@numba.njit(nogil=True, cache=True)
def neighbours(pixel):
    """Left, right, upper and lower neighbour of a pixel of a flat mask; itself past the mask's border."""
    x, y = pixel & 15, pixel >> 4
    return pixel - (x > 0), pixel + (x < 15), pixel - 16 * (y > 0), pixel + 16 * (y < 15)


@numba.njit(nogil=True, cache=True)
def is_boundary(mask, pixel):
    """Whether a pixel of a flat mask differs from one of its 4 neighbours."""
    own = mask[pixel]
    left, right, up, down = neighbours(pixel)
    return (mask[left] != own) | (mask[right] != own) | (mask[up] != own) | (mask[down] != own)


@numba.njit(nogil=True, cache=True)
def find_rings(bins, amount, seen, places, ends):
    """Pixels near a mask's boundary pixels, nearest first: places[: ends[r]] lie within r rows and columns.

    bins: the boundary pixels, 16 column + row. `seen` (256,) is working memory."""
    seen[:] = 0
    for position in range(len(bins)):
        pixel = np.uint64(((bins[position] & 15) << 4) | (bins[position] >> 4))
        places[position] = pixel
        seen[pixel] = 1
    count, begin = len(bins), 0
    ends[0] = count
    for distance in range(1, amount + 1):
        end = count
        for position in range(begin, end):
            y, x = places[position] >> 4, places[position] & 15
            for row in range(y - (y > 0), y + 1 + (y < 15)):
                for column in range(x - (x > 0), x + 1 + (x < 15)):
                    pixel = (row << 4) | column
                    places[count] = pixel
                    count += 1 - seen[pixel]
                    seen[pixel] = 1
        begin = end
        ends[distance] = count


@numba.njit(nogil=True, cache=True)
def mean_colours(mask, colour, top, left, means, counts):
    """means[s] = mean colour of counts[s] sampled pixels of segment s; the mask begins at (top, left)."""
    segments = np.int64(mask.max()) + 1
    means[:segments] = 0
    counts[:segments] = 0
    for y in range(0, LABEL, SAMPLED):
        for x in range(0, LABEL, SAMPLED):
            segment = mask[y * LABEL + x]
            counts[segment] += 1
            for channel in range(3):
                means[segment, channel] += colour[top + y, left + x, channel]
    for segment in range(segments):
        for channel in range(3):
            means[segment, channel] /= np.float32(max(counts[segment], 1))


@numba.njit(nogil=True, cache=True)
def sharpen_mask(mask, places, colour, top, left, means, counts):
    """Let the places, in turn, join the neighbouring segment of the nearest colour, the first of equals.

    A segment too thin to have a colour is no candidate; with no candidate a pixel stays where it is."""
    for pixel in places:
        if not is_boundary(mask, pixel):  # it and all its neighbours are of one segment
            continue
        value = colour[top + (pixel >> 4), left + (pixel & 15)]
        best, best_distance = mask[pixel], np.float32(np.inf)
        for place in neighbours(pixel):
            segment = mask[place]
            distance = np.float32(0.0)
            for channel in range(3):
                distance += (means[segment, channel] - value[channel]) ** 2
            if distance < best_distance and counts[segment] > 0:
                best, best_distance = segment, distance
        mask[pixel] = best


@numba.njit(nogil=True, cache=True)
def add_edges(found, leaf, masks, start, bins, colour, amount, out):
    """Add 1 to `out` at each boundary pixel of each found leaf's mask, fitted to the colours of its place.

    found: (rows, columns, trees) node numbers. leaf: (nodes,) rows of masks (leaves, 256) uint8, whose
    boundary pixels are bins[start[row] : start[row + 1]]. colour: (H, W, 3) float32 of the padded image.
    amount: px from a boundary that may change segment (0: masks stay as they are); out: (H, W) float32."""
    mask, seen = np.empty(PIXELS, np.uint8), np.empty(PIXELS, np.uint8)
    places, ends = np.empty(PIXELS + 1, np.int64), np.empty(amount + 1, np.int64)
    means, counts = np.empty((PIXELS, 3), np.float32), np.empty(PIXELS, np.int64)
    for i in range(found.shape[0]):
        for j in range(found.shape[1]):
            top, left = 2 * i + MARGIN, 2 * j + MARGIN
            for k in range(found.shape[2]):
                row = leaf[found[i, j, k]]
                if start[row] == start[row + 1]:
                    continue
                if amount == 0:
                    for position in bins[start[row] : start[row + 1]]:
                        out[top + (position & 15), left + (position >> 4)] += 1
                    continue
                mask[:] = masks[row]
                find_rings(bins[start[row] : start[row + 1]], amount, seen, places, ends)
                mean_colours(mask, colour, top, left, means, counts)
                sharpen_mask(mask, places[: ends[amount - 1]], colour, top, left, means, counts)
                for pixel in places[: ends[amount]]:
                    out[top + (pixel >> 4), left + (pixel & 15)] += is_boundary(mask, pixel)
