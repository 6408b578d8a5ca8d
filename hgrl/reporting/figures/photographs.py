"""The photographs that notebooks and pages show: scikit-image's, free to publish, or a reader's own."""

from pathlib import Path

import numpy as np
import skimage.data

from hgrl.core.errors import InputError
from hgrl.data.images import read_image, resize_image

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")


def read_photograph(name: str, short_side: int) -> np.ndarray:
    """(H, W, 3) uint8 of scikit-image's photograph, or of a file, its shorter side of `short_side` pixels.

    InputError for a name that is neither, and for a file that is no image."""
    if name in PHOTOGRAPHS:
        return resize_image(getattr(skimage.data, name)(), short_side)
    if not Path(name).is_file():
        raise InputError(f"no photograph or file {name!r}; choose one of {', '.join(PHOTOGRAPHS)}, or a file")
    return read_image(Path(name), short_side)
