"""Structured forests: training on BSDS500, and a compact file.

Dollar & Zitnick, "Fast edge detection using structured forests". The compact file keeps what a node cannot
derive: leaves come in breadth-first order, so children need no index; thresholds were float16 before the
patches were split by them; masks are stored as connected segments."""

from __future__ import annotations

import io
import itertools
import lzma
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hgrl.core import files as store
from hgrl.core import progress
from hgrl.core.errors import InputError
from hgrl.grouping.forest.features import FEATURES, LABEL, feature_table
from hgrl.grouping.forest.growth import GrownTree, Patches, grow
from hgrl.grouping.forest.samples import TrainingSet, read_training_set

FEATURE_SHARE = 4  # each tree sees one feature in 4, chosen at random; section 4.1
LEAST = 8  # patches in a leaf
MAX_DEPTH = 64
STORED = ("first", "inner", "feature", "threshold", "masks")  # arrays of the compact file


@dataclass(frozen=True)
class Forest:
    """Trees as flat arrays; node k of tree t is number first[t] + k, and a node's children are neighbours.

    first: (trees + 1,) int64; child: (nodes,) int32, the number of the lower child within its tree, 0 for a
    leaf;
    feature: (nodes,) int32, a number of `feature_table`; threshold: (nodes,) float32, below it the lower
    child;
    leaf: (nodes,) int32, a row of masks, -1 inside; masks: (leaves, 16, 16) uint8, segments numbered from 0.
    """

    first: np.ndarray
    child: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    leaf: np.ndarray
    masks: np.ndarray

    @property
    def trees(self) -> int:
        return len(self.first) - 1

    def save(self, path: Path) -> None:
        """Write the compact file (atomically)."""
        inner = self.child > 0
        content = {
            "first": self.first,
            "inner": np.packbits(inner),
            "feature": self.feature[inner].astype(np.uint16),
            "threshold": self.threshold[inner].astype(np.float16),
            "masks": np.frombuffer(lzma.compress(self.masks.tobytes(), preset=6), np.uint8),
        }
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **content)
        store.write_bytes(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> Forest:
        """Read a compact file. Raises InputError when it is missing, cut off or something else."""
        try:
            with np.load(path, allow_pickle=False) as file:
                return cls._from_arrays(*(file[name] for name in STORED))
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; train one with `python -m hgrl train-forest`") from None
        except Exception as error:  # numpy, zip and lzma raise a dozen different things on a broken file
            remedy = "train it again with `python -m hgrl train-forest`"
            raise InputError(f"{path}: not a structured forest ({error}); {remedy}") from None

    @classmethod
    def _from_arrays(cls, first, inner, features, thresholds, masks) -> Forest:
        nodes = int(first[-1])
        inner = np.unpackbits(inner, count=nodes).astype(bool)
        child, feature = np.zeros(nodes, np.int32), np.zeros(nodes, np.int32)
        threshold = np.zeros(nodes, np.float32)
        # breadth first: the k-th inner node has children 2k+1 and 2k+2
        for start, stop in itertools.pairwise(first):
            child[start:stop][inner[start:stop]] = 1 + 2 * np.arange(inner[start:stop].sum())
        feature[inner], threshold[inner] = features, thresholds
        leaf = np.where(inner, -1, np.cumsum(~inner) - 1).astype(np.int32)
        masks = np.frombuffer(lzma.decompress(masks.tobytes()), np.uint8).reshape(-1, LABEL, LABEL)
        return cls(first, child, feature, threshold, leaf, masks)


def mask_edges(masks: np.ndarray) -> np.ndarray:
    """Pixels that differ from one of their 4 neighbours, on both sides of a boundary: (n, 16, 16) bool."""
    edges = np.zeros(masks.shape, bool)
    across, down = masks[:, :, 1:] != masks[:, :, :-1], masks[:, 1:] != masks[:, :-1]
    edges[:, :, 1:] |= across
    edges[:, :, :-1] |= across
    edges[:, 1:] |= down
    edges[:, :-1] |= down
    return edges


def train_forest(
    bsds_root: Path,
    out: Path,
    trees: int = 8,
    patches: int = 1_000_000,
    seed: int = 0,
    workers: int = 1,
    splits: tuple[str, ...] = ("train", "val"),
) -> Forest:
    """Train a structured forest on BSDS500 and write its compact file to `out`.

    `patches` per tree; 8 trees of 1M and 2 workers: 4 minutes, 5 GB. `workers` trees grow side by side
    (threads: the maps are shared); the result depends on the seed alone. Raises InputError when `bsds_root`
    does not hold BSDS500, or for numbers below 1."""
    if min(trees, patches, workers) < 1:
        given = f"{trees}, {patches}, {workers}"
        raise InputError(f"train-forest: trees, patches and workers must be at least 1 (got {given})")
    data = read_training_set(Path(bsds_root), splits)
    with ThreadPoolExecutor(workers) as pool:
        jobs = [pool.submit(grow_tree, data, patches, (seed, tree)) for tree in range(trees)]
        grown = [job.result() for job in progress.bar(jobs, "growing trees", total=trees)]
    forest = join_trees(grown)
    forest.save(Path(out))
    return forest


def grow_tree(data: TrainingSet, patches: int, seed: tuple[int, int]) -> tuple[GrownTree, np.ndarray]:
    """One tree and the masks of its leaves, (leaves, 16, 16) uint8 in node order."""
    drawn = data.draw(patches, seed)
    generator = np.random.default_rng((*seed, 1))
    subset = generator.permutation(FEATURES)[: FEATURES // FEATURE_SHARE].astype(np.int32)
    tree = GrownTree(*grow(drawn, feature_table(), subset, LEAST, MAX_DEPTH, int(generator.integers(2**31))))
    return tree, leaf_masks(drawn, tree.medoid[tree.medoid >= 0])


def leaf_masks(patches: Patches, rows: np.ndarray) -> np.ndarray:
    """Masks of the patches, segments numbered from 0 in the order in which they appear: (n, 16, 16) uint8."""
    steps = np.arange(LABEL)
    at = patches.at_mask[rows, None, None] + steps[:, None] * patches.mask_width[rows, None, None] + steps
    out = np.empty((len(rows), LABEL, LABEL), np.uint8)
    for mask, segments in zip(out, patches.segments[at], strict=True):
        _, appears, number = np.unique(segments, return_index=True, return_inverse=True)
        mask[...] = np.argsort(np.argsort(appears))[number].reshape(LABEL, LABEL)
    return out


def join_trees(grown: list[tuple[GrownTree, np.ndarray]]) -> Forest:
    """One forest from grown trees and their leaves' masks."""
    trees, masks = zip(*grown, strict=True)
    first = np.concatenate([[0], np.cumsum([len(tree.child) for tree in trees])]).astype(np.int64)
    child, feature, threshold, _ = (np.concatenate(arrays) for arrays in zip(*trees, strict=True))
    leaf = np.where(child > 0, -1, np.cumsum(child == 0) - 1).astype(np.int32)
    return Forest(first, child, feature, threshold, leaf, np.concatenate(masks))
