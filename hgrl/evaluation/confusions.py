"""Confusion matrices of every reported image, per run and seed: intervals over images are drawn from them."""

import io
import zipfile
from pathlib import Path

import numpy as np

from hgrl.core.errors import InputError
from hgrl.core.files import write_bytes


def save_confusions(path: Path, confusions: dict[str, np.ndarray]) -> None:
    """{head: (N, C, C) counts}, compressed, in the smallest unsigned type; equal counts give equal bytes."""
    buffer = io.BytesIO()
    smallest = {head: np.min_scalar_type(counts.max(initial=0)) for head, counts in confusions.items()}
    np.savez_compressed(buffer, **{head: confusions[head].astype(kind) for head, kind in smallest.items()})
    write_bytes(path, buffer.getvalue())


def load_confusions(path: Path, head: str) -> np.ndarray:
    """(N, C, C) int64 of one head: N images in the split's order; row = truth, column = prediction.

    Raises InputError for a missing or damaged file, and for a head that was not probed."""
    try:
        with np.load(path, allow_pickle=False) as heads:
            if head in heads:
                return heads[head].astype(np.int64)
            known = ", ".join(heads)
    except FileNotFoundError:
        raise InputError(f"{path}: no confusion matrices; run `dvc repro` to probe the run again") from None
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        reason = f"damaged ({' '.join(str(error).split())[:80]})"
        raise InputError(f"{path}: {reason}; delete it and run `dvc repro`") from None
    raise InputError(f"{path}: no head {head!r} among the probed ones ({known})")
