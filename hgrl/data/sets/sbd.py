"""The Semantic Boundaries Dataset (Hariharan et al., ICCV 2011): class masks of 11,355 VOC images.

Layout: `dataset/cls/*.mat`, `dataset/train.txt`, `dataset/val.txt`; a mat file's struct `GTcls` has
`Segmentation`, (H, W) uint8, VOC's 0..20 without void. `dataset/img` is not read: VOC 2012 has the images."""

from pathlib import Path

import numpy as np
from scipy.io import loadmat

from hgrl.core.errors import InputError
from hgrl.data.images import one_line
from hgrl.data.sets.listing import read_list


def find_sbd(root: Path) -> Path | None:
    """SBD's `dataset` folder below the data root, as `fetch` unpacks it or as others lay it out, or None."""
    candidates = ("SBD/benchmark_RELEASE/dataset", "benchmark_RELEASE/dataset", "SBD/dataset", "SBD", "sbd")
    return next((root / name for name in candidates if (root / name / "cls").is_dir()), None)


def sbd_masks(home: Path, split: str) -> dict[str, Path]:
    """Image names and masks of SBD's own `train` or `val`, not VOC's. InputError for a missing list."""
    return {words[0]: home / "cls" / f"{words[0]}.mat" for words in read_list(home / f"{split}.txt")}


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
