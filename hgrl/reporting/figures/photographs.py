"""The photographs that notebooks and pages show: scikit-image brings them along, free to publish."""

import numpy as np
import skimage.data

from hgrl.core.errors import InputError
from hgrl.data.images import resize_image

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")


def read_photograph(name: str, short_side: int) -> np.ndarray:
    """(H, W, 3) uint8, its shorter side of `short_side` pixels. InputError for a name that is not there."""
    if name not in PHOTOGRAPHS:
        raise InputError(f"no photograph named {name!r}; choose one of: {', '.join(PHOTOGRAPHS)}")
    return resize_image(getattr(skimage.data, name)(), short_side)
