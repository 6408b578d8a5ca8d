"""The region tree of an image: at most 255 leaves, and the merges that join them into one root."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from hgrl.core import files as store
from hgrl.core.errors import InputError


@dataclass(frozen=True, eq=False)
class RegionTree:
    """A binary tree over n regions of an image; node n + k is merge k. Paper, section 3.

    labels: (H, W) uint8, the leaf of each pixel, 0 .. n-1, each one connected;
    children: (n-1, 2) uint16, the two nodes that merge k joins;
    heights: (n-1,) float32 in [0, 1], non-decreasing: the level at which they merge.
    """

    labels: np.ndarray
    children: np.ndarray
    heights: np.ndarray

    @property
    def regions(self) -> int:
        """n, the number of leaves."""
        return len(self.children) + 1

    @cached_property
    def parents(self) -> np.ndarray:
        """(2n-1,) int64: the parent of each node; the root is its own."""
        parents = np.arange(2 * self.regions - 1)
        parents[self.children] = self.regions + np.arange(len(self.children))[:, None]
        return parents

    def distances(self) -> np.ndarray:
        """d_T: the height at which two leaves first belong to one node: (n, n) float32, an ultrametric with a
        zero diagonal.

        The distance that equations 2 and 3 rest on (section 3).
        """
        distances = np.zeros((self.regions, self.regions), np.float32)
        members = [[leaf] for leaf in range(self.regions)]
        for (first, second), height in zip(self.children, self.heights, strict=True):
            distances[np.ix_(members[first], members[second])] = height
            distances[np.ix_(members[second], members[first])] = height
            members.append(members[first] + members[second])
        return distances

    def leaf_groups(self, level: float) -> np.ndarray:
        """(n,) uint8: the group of each leaf when all merges of height <= level are made; groups numbered in
        order of appearance.
        """
        return self._groups(int(np.searchsorted(self.heights, np.float32(level), side="right")))

    def cut(self, level: float) -> np.ndarray:
        """Labels (H, W) uint8 of the partition at a level: merges of height <= level are made. Higher cuts
        contain lower ones.
        """
        return self.leaf_groups(level)[self.labels]

    def cut_into(self, count: int) -> np.ndarray:
        """Labels (H, W) uint8 of the partition into `count` regions (at most n, at least 1)."""
        return self._groups(self.regions - min(max(count, 1), self.regions))[self.labels]

    def _groups(self, merges: int) -> np.ndarray:
        group = np.arange(self.regions + merges)
        for k in reversed(range(merges)):  # from the top: a node's group is its parent's
            group[self.children[k]] = group[self.regions + k]
        _, appears, number = np.unique(group[: self.regions], return_index=True, return_inverse=True)
        return np.argsort(np.argsort(appears))[number].astype(np.uint8)

    def ucm(self) -> np.ndarray:
        """Ultrametric contour map (H, W) float32: at each pixel, the largest distance to the leaf on its
        right or below it.
        """
        distances, out = self.distances(), np.zeros(self.labels.shape, np.float32)
        np.maximum(out[:, :-1], distances[self.labels[:, :-1], self.labels[:, 1:]], out=out[:, :-1])
        np.maximum(out[:-1], distances[self.labels[:-1], self.labels[1:]], out=out[:-1])
        return out

    def areas(self) -> np.ndarray:
        """(2n-1,) int64: pixels of each node."""
        areas = np.bincount(self.labels.ravel(), minlength=2 * self.regions - 1)
        for k, pair in enumerate(self.children):
            areas[self.regions + k] = areas[pair].sum()
        return areas

    def save(self, path: Path) -> None:
        """Write an .npz file (atomically); the labels as differences, which compress to half the size."""
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer, labels=_differences(self.labels), children=self.children, heights=self.heights
        )
        store.write_bytes(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> RegionTree:
        """Read what `save` wrote. Raises InputError when the file is missing, cut off, or no region tree."""
        try:
            with np.load(path, allow_pickle=False) as file:
                tree = cls(_sums(file["labels"]), file["children"], file["heights"])
        except FileNotFoundError:
            raise InputError(
                f"{path}: no such region tree; run `python -m hgrl group` on its image"
            ) from None
        except Exception as error:  # numpy and zip raise a dozen different things on a broken file
            raise InputError(
                f"{path}: not a region tree ({error}); delete it and run `python -m hgrl group` again"
            ) from None
        problem = tree.problem()
        if problem:
            raise InputError(
                f"{path}: not a region tree ({problem}); delete it and run `python -m hgrl group` again"
            )
        return tree

    def problem(self) -> str | None:
        """What makes these arrays no region tree, or None. Connectedness of the leaves is not looked at."""
        n = self.regions
        if self.labels.ndim != 2 or self.labels.dtype != np.uint8 or self.labels.size == 0:
            return "labels are not an (H, W) uint8 array"
        if self.children.shape != (n - 1, 2) or self.heights.shape != (n - 1,):
            return "children and heights do not fit together"
        if not (np.bincount(self.labels.ravel(), minlength=n) > 0).all() or self.labels.max() >= n:
            return f"labels are not 0 .. {n - 1}"
        if (self.children >= n + np.arange(n - 1)[:, None]).any() or len(np.unique(self.children)) != 2 * (
            n - 1
        ):
            return "a node is merged twice, or before it is made"
        if (
            not np.isfinite(self.heights).all()
            or (np.diff(self.heights) < 0).any()
            or (self.heights < 0).any()
        ):
            return "heights are not finite, non-negative and non-decreasing"
        return None


def _differences(labels: np.ndarray) -> np.ndarray:
    """Each label minus the one above it (modulo 256): mostly zeros."""
    out = labels.copy()
    out[1:] -= labels[:-1]
    return out


def _sums(differences: np.ndarray) -> np.ndarray:
    if differences.ndim != 2 or differences.dtype != np.uint8:
        raise ValueError("labels are not an (H, W) uint8 array")
    return np.cumsum(differences, axis=0, dtype=np.uint8)
