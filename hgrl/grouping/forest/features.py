"""What a structured forest sees: 13 channels at half resolution, 3,328 regular and 3,900 other features.

Dollar & Zitnick, "Fast edge detection using structured forests", section 4.1. Channels come from OpenCV's
extractor and features are numbered as in OpenCV's detector, so that a forest trained here can run there."""

import cv2
import numpy as np

PATCH = 32  # side of the patch a tree looks at, pixels
LABEL = 16  # side of the segmentation mask it answers with, in the middle of the patch
SHRINK = 2  # channels have half the resolution
CELLS = PATCH // SHRINK  # side of a patch in channel cells
CHANNELS = 13  # L, u, v; then at two scales: gradient magnitude and 4 orientations
GRID = 5  # self-similarity compares the cells of a 5x5 grid
MARGIN = (PATCH - LABEL) // 2  # a mask begins this far inside its patch

NORMALISATION_RADIUS = 4  # the gradient's magnitude is divided by its mean over this radius
GRADIENT_SMOOTHING = 0
REGULAR_SMOOTHING = 1  # triangle radius in cells (2 px)
SIMILARITY_SMOOTHING = 4  # triangle radius in cells (8 px)

REGULAR = CELLS * CELLS * CHANNELS  # 3,328
FEATURES = REGULAR + CHANNELS * (GRID**2 * (GRID**2 - 1)) // 2  # 7,228


def smooth(maps: np.ndarray, radius: int) -> np.ndarray:
    """Triangle filter of each channel of (h, w, C) float32; its side is 2 radius + 1."""
    kernel = np.minimum(np.arange(1, 2 * radius + 2), np.arange(2 * radius + 1, 0, -1)).astype(np.float32)
    kernel /= kernel.sum()
    return cv2.sepFilter2D(maps, -1, kernel, kernel)


def feature_maps(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(regular, similarity) maps (H/2, W/2, 13) float32 of an image (H, W, 3) uint8, sides multiples of 4."""
    height, width = image.shape[:2]
    maps = np.zeros((height // SHRINK, width // SHRINK, CHANNELS), np.float32)  # the extractor only fills it
    rgb = np.ascontiguousarray(image, dtype=np.float32) / np.float32(255)
    extractor = cv2.ximgproc.createRFFeatureGetter()
    extractor.getFeatures(rgb, maps, NORMALISATION_RADIUS, GRADIENT_SMOOTHING, SHRINK, CHANNELS, 4)
    return smooth(maps, REGULAR_SMOOTHING), smooth(maps, SIMILARITY_SMOOTHING)


def feature_table() -> np.ndarray:
    """Where each feature reads: (7228, 5) int32 of row, column, second row, second column, channel.

    The first 3,328 read the regular map once, column after column of a channel (second row -1); the rest are
    the difference of two cells of the similarity map."""
    table = np.full((FEATURES, 5), -1, np.int32)
    places = np.unravel_index(np.arange(REGULAR), (CHANNELS, CELLS, CELLS))  # channel, column, row
    table[:REGULAR, [4, 1, 0]] = np.transpose(places)
    half = round(CELLS / (2 * GRID))
    at = np.array([int((i + 1) * (CELLS + 2 * half - 1) / (GRID + 1) - half + 0.5) for i in range(GRID)])
    first, second = np.triu_indices(GRID**2, 1)
    pairs = np.stack([at[first % GRID], at[first // GRID], at[second % GRID], at[second // GRID]], axis=1)
    table[REGULAR:, :4] = np.tile(pairs, (CHANNELS, 1))
    table[REGULAR:, 4] = np.repeat(np.arange(CHANNELS), len(pairs))
    return table
