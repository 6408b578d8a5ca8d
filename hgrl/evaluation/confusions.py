"""The confusion matrix of every reported image, kept for each run and seed: what intervals over images are
drawn from.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

from hgrl.core import paths
from hgrl.core.errors import InputError
from hgrl.core.files import write_bytes


def confusion_file(profile: str, run: str, seed: int) -> Path:
    """Beside the probe's score of this run and seed."""
    return paths.scores(profile, "probe") / f"{run}-seed{seed}.npz"


def save_confusions(path: Path, confusions: dict[str, np.ndarray]) -> None:
    """{head: (N, C, C) counts}, in the smallest unsigned type that holds them, compressed; equal counts give
    equal bytes.
    """
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        **{
            head: counts.astype(np.min_scalar_type(counts.max(initial=0)))
            for head, counts in confusions.items()
        },
    )
    write_bytes(path, buffer.getvalue())


def load_confusions(path: Path, head: str) -> np.ndarray:
    """(N, C, C) int64 of one head: N images in the split's order; row = truth, column = prediction.

    Raises InputError for a missing or damaged file, and for a head that was not probed.
    """
    try:
        with np.load(path, allow_pickle=False) as heads:
            if head in heads:
                return heads[head].astype(np.int64)
            known = ", ".join(heads)
    except FileNotFoundError:
        raise InputError(f"{path}: no confusion matrices; run `dvc repro` to probe the run again") from None
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: damaged ({' '.join(str(error).split())[:80]}); delete it and run `dvc repro`"
        ) from None
    raise InputError(f"{path}: no head {head!r} among the probed ones ({known})")
