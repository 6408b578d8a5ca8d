"""The region tree of an image: at most 255 leaves, and the merges that join them into one root."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image

from hgrl.core import files
from hgrl.core.errors import InputError


@dataclass(frozen=True, eq=False)
class RegionTree:
    """A binary tree over n regions of an image; node n + k is merge k. Paper, section 3.

    labels: (H, W) uint8, the leaf of each pixel, 0 .. n-1, each one connected; children: (n-1, 2) uint16, the
    nodes that merge k joins; heights: (n-1,) float32 in [0, 1], non-decreasing: the level of the merge."""

    labels: np.ndarray
    children: np.ndarray
    heights: np.ndarray

    @property
    def regions(self) -> int:
        """n, the number of leaves."""
        return len(self.children) + 1

    def __repr__(self) -> str:
        size, plural = "x".join(map(str, self.labels.shape)), "s" if self.regions > 1 else ""
        heights = f", heights {self.heights[0]:.2f} to {self.heights[-1]:.2f}" if len(self.heights) else ""
        return f"RegionTree({self.regions} region{plural}, {size}{heights})"

    def _repr_png_(self) -> bytes:
        """In a notebook: leaves in colours, the nearer in the tree the nearer in hue; contours by height."""
        hues, contours = np.zeros(self.regions, np.uint8), self.contours()
        hues[self.order()] = np.linspace(0, 210, self.regions)  # of 255: the last is not the first's again
        values = np.where(contours > 0, 160 * (1 - contours / max(contours.max(), 1e-6)), 235)
        bands = hues[self.labels], np.full(self.labels.shape, 100, np.uint8), values.astype(np.uint8)
        buffer, picture = io.BytesIO(), Image.merge("HSV", [Image.fromarray(band) for band in bands])
        picture.convert("RGB").save(buffer, "PNG")
        return buffer.getvalue()

    def order(self) -> np.ndarray:
        """(n,) the leaves from left to right such that no two branches of the tree cross."""
        members = [[leaf] for leaf in range(self.regions)]
        for first, second in self.children:
            members.append(members[first] + members[second])
        return np.array(members[-1])

    def contours(self) -> np.ndarray:
        """(H, W) float32: the height at which a pixel's leaf meets the right or lower one's, the greater."""
        distances, labels = self.distances(), self.labels
        contours = np.zeros(labels.shape, np.float32)
        contours[:, :-1] = distances[labels[:, :-1], labels[:, 1:]]
        contours[:-1] = np.maximum(contours[:-1], distances[labels[:-1], labels[1:]])
        return contours

    def distances(self) -> np.ndarray:
        """d_T of equations 2 and 3: the heights at which leaves meet, (n, n) float32, an ultrametric."""
        distances = np.zeros((self.regions, self.regions), np.float32)
        members = [[leaf] for leaf in range(self.regions)]
        for (first, second), height in zip(self.children, self.heights, strict=True):
            distances[np.ix_(members[first], members[second])] = height
            distances[np.ix_(members[second], members[first])] = height
            members.append(members[first] + members[second])
        return distances

    def leaf_groups(self, level: float) -> np.ndarray:
        """(n,) uint8: each leaf's group after all merges of height <= level, in order of appearance."""
        return self._groups(int(np.searchsorted(self.heights, np.float32(level), side="right")))

    def cut(self, level: float) -> np.ndarray:
        """Labels (H, W) uint8 of the partition at a level: merges of height <= level are made."""
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

    def save(self, path: Path, origin: str = "") -> None:
        """Write an .npz file, atomically. origin: a fingerprint of what the tree was made from."""
        buffer, stamp = io.BytesIO(), [origin, self._checksum(origin)]
        steps = np.diff(self.labels, axis=0, prepend=np.uint8(0))  # modulo 256: compresses to half the size
        arrays = {"labels": steps, "children": self.children, "heights": self.heights}
        np.savez_compressed(buffer, **arrays, stamp=np.array(stamp))
        files.write_bytes(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote. InputError for what is missing, damaged, or by an older version."""
        return load_tree(path)[0]

    def problem(self) -> str | None:
        """What makes these arrays no region tree, or None. Connectedness of the leaves is not checked."""
        labels, children, heights = self.labels, self.children, self.heights
        if labels.ndim != 2 or labels.dtype != np.uint8 or labels.size == 0:
            return "labels are not an (H, W) uint8 array"
        if children.dtype.kind not in "iu" or heights.dtype.kind != "f":
            return "children are not integers, or heights no floats"
        if heights.ndim != 1 or children.shape != (len(heights), 2):
            return "children and heights do not fit together"
        n, nodes = self.regions, self.regions + np.arange(len(heights))
        if labels.max() >= n or not np.bincount(labels.ravel(), minlength=n).all():
            return f"labels are not 0 .. {n - 1}"
        if (children < 0).any() or (children >= nodes[:, None]).any():
            return "a node is merged before it is made"
        if len(np.unique(children)) != 2 * (n - 1):
            return "a node is merged twice"
        if not ((heights >= 0) & (heights <= 1)).all() or (np.diff(heights) < 0).any():
            return "heights do not rise from 0 to 1"
        return None

    def _checksum(self, origin: str) -> str:
        digest = hashlib.sha256(origin.encode())
        for array in (self.labels, self.children, self.heights):
            digest.update(f"{array.dtype.str} {array.shape}".encode() + np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]


def load_tree(path: Path) -> tuple[RegionTree, str]:
    """A tree and the fingerprint it was saved with; raises as `RegionTree.load` does."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if "stamp" not in file:
                raise ValueError("no checksum: damaged, or by an older version")
            steps, children, heights = (file[name] for name in ("labels", "children", "heights"))
            origin, checksum = map(str, file["stamp"])
        if steps.dtype != np.uint8:
            raise ValueError("labels are not uint8")
        tree = RegionTree(np.cumsum(steps, axis=0, dtype=np.uint8), children, heights)
        if problem := tree.problem():
            raise ValueError(problem)
        if checksum != tree._checksum(origin):
            raise ValueError("the checksum does not match: damaged, or edited")
    except FileNotFoundError:
        raise InputError(f"{path}: no such region tree; run `python -m hgrl group` on its image") from None
    except Exception as error:  # numpy and zip raise a dozen different things on a broken file
        reason = " ".join(str(error).split())
        remedy = "run `python -m hgrl group`, or the stage that wrote it, again"
        raise InputError(f"{path}: not a region tree ({reason}); {remedy}") from None
    return tree, origin
