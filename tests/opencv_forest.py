"""An oracle: a forest as OpenCV's model file, so that OpenCV's own detector runs it (it cannot sharpen)."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np

from hgrl.grouping.forest import features
from hgrl.grouping.forest.detect import edge_bins
from hgrl.grouping.forest.model import Forest

EVALUATED = 4  # trees asked at a place
STRIDE = 2  # pixels between places
CHUNK, LINE = 4096, 64  # numbers in a sequence of the file, and in a line


def export_opencv(forest: Forest, path: Path) -> None:
    """Write the forest to `path` (.yml.gz) in OpenCV's format; 8 trees of 1M patches: 5 s, 18 MB."""
    nodes = int(np.diff(forest.first).max())
    starts, bins = edge_bins(forest)
    counts = np.where(forest.leaf >= 0, np.diff(starts)[forest.leaf], 0)
    per_node = (forest.child, forest.feature, forest.threshold, counts)
    child, feature, threshold, counts = (_padded(values, forest.first, nodes) for values in per_node)
    with gzip.open(path, "wb", compresslevel=1) as packed:
        text = io.TextIOWrapper(packed, encoding="ascii")
        text.write(_options(forest.trees))
        # the upper child: OpenCV finds the lower one before it
        _write(text, "childs", np.where(child > 0, child + 1, 0), "%d")
        _write(text, "featureIds", feature, "%d")
        _write(text, "thresholds", threshold, "%.9g")
        _write(text, "edgeBoundaries", np.concatenate([[0], np.cumsum(counts)]), "%d")
        _write(text, "edgeBins", bins, "%d")
        text.flush()


def _padded(values: np.ndarray, first: np.ndarray, length: int) -> np.ndarray:
    """Every tree's values, filled up with zeros to `length`: OpenCV wants trees of one size."""
    out = np.zeros((len(first) - 1, length), values.dtype)
    for row, start, stop in zip(out, first[:-1], first[1:], strict=True):
        row[: stop - start] = values[start:stop]
    return out.ravel()


def _options(trees: int) -> str:
    options = {
        "stride": STRIDE,
        "shrinkNumber": features.SHRINK,
        "patchSize": features.PATCH,
        "patchInnerSize": features.LABEL,
        "numberOfGradientOrientations": 4,
        "gradientSmoothingRadius": features.GRADIENT_SMOOTHING,
        "regFeatureSmoothingRadius": features.REGULAR_SMOOTHING * features.SHRINK,
        "ssFeatureSmoothingRadius": features.SIMILARITY_SMOOTHING * features.SHRINK,
        "gradientNormalizationRadius": features.NORMALISATION_RADIUS,
        "selfsimilarityGridSize": features.GRID,
        "numberOfTrees": trees,
        "numberOfTreesToEvaluate": min(EVALUATED, trees),
    }
    return "%YAML:1.0\n---\noptions:\n" + "".join(f"   {name}: {value}\n" for name, value in options.items())


def _write(text: io.TextIOBase, name: str, values: np.ndarray, form: str) -> None:
    """Sequences of at most CHUNK numbers, which OpenCV joins: it takes minutes to read one of millions."""
    text.write(f"{name}:\n")
    for k in range(0, len(values), CHUNK):
        numbers = [form % value for value in values[k : k + CHUNK].tolist()]
        lines = (", ".join(numbers[i : i + LINE]) for i in range(0, len(numbers), LINE))
        text.write("   - [ " + ",\n       ".join(lines) + " ]\n")
