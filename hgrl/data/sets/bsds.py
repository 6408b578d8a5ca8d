"""BSDS500: photographs with several human segmentations each.

Layout: `data/images/<split>/*.jpg`, `data/groundTruth/<split>/*.mat`; a mat file holds `groundTruth`, a 1xN
cell of structs with `Segmentation` (uint16, 1-based region ids) and `Boundaries` (uint8, 0 or 1), one an
annotator.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from hgrl.core.errors import InputError
from hgrl.data.samples import Samples, check_size, sample_name
from hgrl.data.sets.listing import find_folder, images_in


@dataclass(frozen=True)
class ContourSamples(Samples):
    """Images with human segmentations instead of class masks."""

    ground_truths: tuple[Path, ...] = ()

    def ground_truth(self, index: int) -> list[np.ndarray]:
        """The annotators' segmentations, each (H, W) uint16 with region ids from 1. InputError for a missing
        or damaged file.
        """
        return self._read(index, "Segmentation", np.uint16)

    def boundaries(self, index: int) -> list[np.ndarray]:
        """The annotators' boundary maps, each (H, W) bool."""
        return self._read(index, "Boundaries", np.bool_)

    @property
    def _per_image(self) -> tuple[str, ...]:
        return (*super()._per_image, "ground_truths")

    def _read(self, index: int, field: str, dtype: type) -> list[np.ndarray]:
        path = self.ground_truths[index]
        maps = [np.ascontiguousarray(entry[field], dtype=dtype) for entry in _annotators(path)]
        for labels in maps:
            check_size(labels, path, field, self.images[index])
        return maps


def open_bsds(root: Path, folder: str, split: str) -> ContourSamples:
    """Images of `train`, `val` or `test` with their human segmentations. Raises InputError for a missing
    folder or split.
    """
    home = (
        find_folder(root, folder, f"{folder}/BSDS500", f"{folder}/BSR/BSDS500", needs="data/images") / "data"
    )
    images = images_in(home / "images" / split)
    names = tuple(sample_name(Path(folder).name, path.stem) for path in images)
    return ContourSamples(
        names,
        images,
        ground_truths=tuple(home / "groundTruth" / split / f"{path.stem}.mat" for path in images),
    )


def _annotators(path: Path) -> list[dict[str, np.ndarray]]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; fetch BSDS500's groundTruth folder")
    try:
        cell = loadmat(path)["groundTruth"]
        structs = [entry[0, 0] for entry in cell.ravel()]
        annotators = [
            {field: struct[field] for field in ("Segmentation", "Boundaries")} for struct in structs
        ]
    # scipy raises many kinds on a damaged file, and indexing what is not BSDS's raises more
    except Exception as error:
        raise InputError(
            f"{path}: not a BSDS500 ground truth ({' '.join(str(error).split())}); fetch it again"
        ) from error
    if not annotators:
        raise InputError(f"{path}: no segmentation in it; fetch it again")
    return annotators


def load_ucm2(path: Path) -> np.ndarray:
    """The `ucm2` of a mat file: (2H+1, 2W+1) float64 in [0, 1]; integers (uint8, uint16) are scaled by their
    type's maximum.

    Raises InputError for a missing or damaged file, one without `ucm2`, and for what is no contour map of
    double size.
    """
    try:
        ucm2 = np.asarray(loadmat(path, variable_names=["ucm2"])["ucm2"])
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; write a mat file with `ucm2` there") from None
    except KeyError:
        raise InputError(
            f"{path}: no `ucm2` in it; save the contour map of double size under that name"
        ) from None
    except Exception as error:  # scipy raises many kinds on a damaged file
        raise InputError(
            f"{path}: not a mat file that can be read ({' '.join(str(error).split())}); save it again"
        ) from error
    if (
        ucm2.ndim != 2
        or ucm2.dtype.kind not in "fu"
        or min(ucm2.shape) < 3
        or ucm2.shape[0] % 2 == 0
        or ucm2.shape[1] % 2 == 0
    ):
        raise InputError(
            f"{path}: ucm2 is {ucm2.dtype} of shape {ucm2.shape}; it must be numbers in [0, 1], 2 x the image's height and width + 1"
        )
    ucm2 = ucm2.astype(np.float64) / (np.iinfo(ucm2.dtype).max if ucm2.dtype.kind == "u" else 1)
    if not (ucm2.min() >= 0 and ucm2.max() <= 1):  # also false for nan
        raise InputError(f"{path}: ucm2 has values outside [0, 1]; scale it")
    return ucm2
