"""The Semantic Boundaries Dataset (Hariharan et al., ICCV 2011): class masks of 11,355 VOC images, as mat
files.

Layout: `dataset/cls/*.mat`, `dataset/train.txt`, `dataset/val.txt`; a mat file holds the struct `GTcls` whose
`Segmentation` is (H, W) uint8, VOC's 0..20 without void. SBD's own copies of the images (`dataset/img`) are
not read: VOC 2012 has them all."""

from pathlib import Path

import numpy as np
from scipy.io import loadmat

from hgrl.core.errors import InputError
from hgrl.data.images import one_line
from hgrl.data.sets.listing import read_list

SPLITS = ("train", "val")  # not VOC's: SBD's train holds images of VOC 2012's val


def find_sbd(root: Path) -> Path | None:
    """SBD's `dataset` folder below the data root, as `fetch` unpacks it or as others lay it out, or None."""
    candidates = ("SBD/benchmark_RELEASE/dataset", "benchmark_RELEASE/dataset", "SBD/dataset", "SBD", "sbd")
    return next((root / name for name in candidates if (root / name / "cls").is_dir()), None)


def sbd_stems(home: Path, split: str) -> tuple[str, ...]:
    """The image names of SBD's own `train` or `val` list. Raises InputError for a missing list."""
    return tuple(words[0] for words in read_list(home / f"{split}.txt"))


def mask_file(home: Path, stem: str) -> Path:
    return home / "cls" / f"{stem}.mat"


def read_mat_mask(path: Path) -> np.ndarray:
    """(H, W) uint8 class ids of one `cls` file; InputError when it is missing, damaged or something else."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; run `python -m hgrl fetch sbd`")
    try:
        mask = loadmat(path, variable_names=["GTcls"])["GTcls"][0, 0]["Segmentation"]
        if mask.ndim != 2 or mask.dtype.kind not in "iu" or mask.min() < 0 or mask.max() > 255:
            raise ValueError(f"Segmentation is {mask.dtype} of shape {mask.shape}, or not of ids 0..255")
    except Exception as error:  # scipy raises many kinds on a damaged file, indexing one of another form more
        raise InputError(f"{path}: not a class mask of SBD ({one_line(error)}); fetch it again") from error
    return np.ascontiguousarray(mask, dtype=np.uint8)
