"""Structured forests (Dollar & Zitnick, "Fast edge detection using structured forests"): training, files.

A file holds what a node cannot derive: leaves come in breadth-first order, so children need no index;
thresholds were float16 before the patches were split by them; masks are connected segments."""

import io
import itertools
import lzma
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from hgrl.core import files, progress
from hgrl.core.errors import InputError
from hgrl.grouping.forest.features import FEATURES, LABEL, feature_table
from hgrl.grouping.forest.growth import GrownTree, Patches, grow
from hgrl.grouping.forest.samples import TrainingSet, read_training_set

FEATURE_SHARE = 4  # each tree sees one feature in 4, chosen at random; section 4.1
LEAST = 8  # patches in a leaf
MAX_DEPTH = 64


@dataclass(frozen=True)
class Forest:
    """Trees as flat arrays; node k of tree t is number first[t] + k, and a node's children are neighbours.

    first: (trees + 1,) int64; child: (nodes,) int32, the number of the lower child within its tree, 0 for a
    leaf; feature: (nodes,) int32, a number of `feature_table`; threshold: (nodes,) float32, below it the
    lower child; leaf: (nodes,) int32, a row of masks, -1 inside; masks: (leaves, 16, 16) uint8, segments
    numbered from 0."""

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
        inner, buffer = self.child > 0, io.BytesIO()
        nodes = {"inner": np.packbits(inner), "feature": self.feature[inner].astype(np.uint16)}
        nodes["threshold"] = self.threshold[inner].astype(np.float16)
        masks = np.frombuffer(lzma.compress(self.masks.tobytes(), preset=6), np.uint8)
        np.savez_compressed(buffer, first=self.first, **nodes, masks=masks)
        files.write_bytes(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a compact file. Raises InputError when it is missing, cut off or something else."""
        try:
            with np.load(path, allow_pickle=False) as file:
                return cls._from_arrays(**file)
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; train one with `python -m hgrl train-forest`") from None
        except Exception as error:  # numpy, zip and lzma raise a dozen different things on a broken file
            remedy = "train it again with `python -m hgrl train-forest`"
            raise InputError(f"{path}: not a structured forest ({error}); {remedy}") from None

    @classmethod
    def _from_arrays(cls, first, inner, feature, threshold, masks) -> Self:
        nodes = int(first[-1])
        inner = np.unpackbits(inner, count=nodes).astype(bool)
        child, features = np.zeros((2, nodes), np.int32)
        thresholds = np.zeros(nodes, np.float32)
        for start, stop in itertools.pairwise(first):  # inner node k, breadth first, has children 2k+1, 2k+2
            child[start:stop][inner[start:stop]] = 1 + 2 * np.arange(inner[start:stop].sum())
        features[inner], thresholds[inner] = feature, threshold
        masks = np.frombuffer(lzma.decompress(masks.tobytes()), np.uint8).reshape(-1, LABEL, LABEL)
        return cls(first, child, features, thresholds, leaf_rows(child), masks)


def leaf_rows(child: np.ndarray) -> np.ndarray:
    """The row of each node's mask, leaves in node order: (nodes,) int32; -1 inside."""
    return np.where(child > 0, -1, np.cumsum(child == 0) - 1).astype(np.int32)


def mask_edges(masks: np.ndarray) -> np.ndarray:
    """Pixels that differ from one of their 4 neighbours, on both sides of a boundary: (n, 16, 16) bool."""
    across = np.pad(masks[:, :, 1:] != masks[:, :, :-1], ((0, 0), (0, 0), (1, 1)))
    down = np.pad(masks[:, 1:] != masks[:, :-1], ((0, 0), (1, 1), (0, 0)))
    return across[:, :, 1:] | across[:, :, :-1] | down[:, 1:] | down[:, :-1]


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

    `patches` per tree; 8 trees of 1M and 2 workers: 4 minutes, 5 GB. `workers` trees grow side by side, in
    threads; the seed alone decides the result. InputError without BSDS500, and for numbers below 1."""
    if min(trees, patches, workers) < 1:
        given = f"{trees}, {patches}, {workers}"
        raise InputError(f"train-forest: trees, patches and workers must be at least 1 (got {given})")
    data = read_training_set(Path(bsds_root), splits)
    with ThreadPoolExecutor(workers) as pool:
        jobs = [pool.submit(grow_tree, data, patches, (seed, tree)) for tree in range(trees)]
        done = [job.result() for job in progress.bar(jobs, "growing trees", total=trees)]
    grown, masks = zip(*done, strict=True)
    first = np.cumsum([0, *(len(tree.child) for tree in grown)], dtype=np.int64)
    child, feature, threshold, _ = (np.concatenate(arrays) for arrays in zip(*grown, strict=True))
    forest = Forest(first, child, feature, threshold, leaf_rows(child), np.concatenate(masks))
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
