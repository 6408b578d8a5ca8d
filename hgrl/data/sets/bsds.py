"""BSDS500: photographs with several human segmentations each.

Layout: `data/images/<split>/*.jpg`, `data/groundTruth/<split>/*.mat`; a mat file's cell `groundTruth` has a
struct per annotator: `Segmentation` (uint16, region ids from 1) and `Boundaries` (uint8, 0 or 1)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from hgrl.core.errors import InputError
from hgrl.data.images import one_line
from hgrl.data.samples import Samples, check_size, sample_names
from hgrl.data.sets.listing import find_folder, images_in

LIMITS = {"Segmentation": (1, 65535), "Boundaries": (0, 1)}


@dataclass(frozen=True)
class ContourSamples(Samples):
    """Images with human segmentations instead of class masks."""

    ground_truths: tuple[Path, ...] = ()

    def ground_truth(self, index: int) -> list[np.ndarray]:
        """The annotators' segmentations, each (H, W) uint16, ids from 1. InputError for damaged files."""
        return self._read(index, "Segmentation", np.uint16)

    def boundaries(self, index: int) -> list[np.ndarray]:
        """The annotators' boundary maps, each (H, W) bool."""
        return self._read(index, "Boundaries", np.bool_)

    def _read(self, index: int, field: str, dtype: type) -> list[np.ndarray]:
        path, (low, high) = self.ground_truths[index], LIMITS[field]
        if not path.is_file():
            raise InputError(f"{path}: no such file; fetch BSDS500's groundTruth folder")
        try:
            structs = [entry[0, 0] for entry in loadmat(path)["groundTruth"].ravel()]
            both = [{name: np.asarray(struct[name]) for name in LIMITS} for struct in structs]
        except Exception as error:  # scipy raises many kinds on a damaged file, indexing some more
            what = f"not a BSDS500 ground truth ({one_line(error)})"
            raise InputError(f"{path}: {what}; fetch it again") from error
        if not both:
            raise InputError(f"{path}: no segmentation in it; fetch it again")
        maps = [fields[field] for fields in both]
        for values in maps:
            if values.ndim != 2 or values.dtype.kind not in "biuf":
                what = f"{field} is {values.dtype} of shape {values.shape}"
                raise InputError(f"{path}: {what}, not a map; fetch it again")
            check_size(values, path, field, self.images[index])
            if not np.all((values >= low) & (values <= high) & (values == np.floor(values))):  # also for NaN
                raise InputError(f"{path}: {field} is not of whole numbers {low} to {high}; fetch it again")
        return [np.ascontiguousarray(values, dtype) for values in maps]


def open_bsds(root: Path, folder: str, split: str) -> ContourSamples:
    """Images of `train`, `val` or `test` with segmentations. InputError for a missing folder or split."""
    places = folder, f"{folder}/BSDS500", f"{folder}/BSR/BSDS500"
    home = find_folder(root, *places, needs="data/images") / "data"
    images = images_in(home / "images" / split)
    truths = tuple(home / "groundTruth" / split / f"{path.stem}.mat" for path in images)
    return ContourSamples(sample_names(folder, images), images, ground_truths=truths)


def load_ucm2(path: Path) -> np.ndarray:
    """The `ucm2` of a mat file: (2H+1, 2W+1) float64 in [0, 1]; unsigned integers by their maximum.

    Raises InputError for a missing or damaged file, one without `ucm2`, for what is no contour map of double
    size, and for integers 0 and 1 alone, which that scale would make all but invisible."""
    try:
        ucm2 = np.asarray(loadmat(path, variable_names=["ucm2"])["ucm2"])
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; write a mat file with `ucm2` there") from None
    except KeyError:
        raise InputError(f"{path}: no `ucm2` in it; save the map of double size under that name") from None
    except Exception as error:  # scipy raises many kinds on a damaged file
        raise InputError(f"{path}: no readable mat file ({one_line(error)}); save it again") from error
    shape, kind = ucm2.shape, ucm2.dtype.kind
    if len(shape) != 2 or kind not in "fu" or min(shape) < 3 or not all(side % 2 for side in shape):
        wanted = "it must be numbers in [0, 1], 2 x the image's height and width + 1"
        raise InputError(f"{path}: ucm2 is {ucm2.dtype} of shape {shape}; {wanted}")
    if kind == "u" and ucm2.max() == 1:
        raise InputError(f"{path}: ucm2 is {ucm2.dtype} of 0 and 1 alone; save it as double")
    ucm2 = ucm2.astype(np.float64) / (np.iinfo(ucm2.dtype).max if kind == "u" else 1)
    if not (ucm2.min() >= 0 and ucm2.max() <= 1):  # also false for NaN
        raise InputError(f"{path}: ucm2 has values outside [0, 1]; scale it")
    return ucm2
