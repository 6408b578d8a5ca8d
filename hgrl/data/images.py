"""The one place that reads images and masks: any file gives an 8-bit array, or one clear line of error."""

import stat
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from hgrl.core.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png")  # the data sets' own; any other format is read when it is named
MAX_PIXELS = 89_478_485  # Pillow's own limit, against decompression bombs


def read_image(path: Path, short_side: int | None = None) -> np.ndarray:
    """An image file as (H, W, 3) uint8 RGB.

    Grey, palette, CMYK and YCbCr are converted to RGB, 16 bits scaled to 8, transparency composited on white,
    EXIF rotation applied; an animation gives its first frame. Colour profiles are ignored: the field's
    networks are trained so. `short_side` resizes, antialiased, up or down, to a shorter side of that many
    pixels; a JPEG is then decoded at a reduced size, several times faster. Raises InputError, naming the
    file, when it is missing, truncated, too large, no regular file, or not an image."""

    def decode(image: Image.Image) -> np.ndarray:
        if short_side is not None and 2 * short_side < min(image.size):
            scale = 2 * short_side / min(image.size)  # no less, so that the resize still antialiases
            image.draft(None, (round(image.width * scale), round(image.height * scale)))
        image.load()
        with suppress(Exception):  # a damaged EXIF block says nothing of the rotation; the pixels are good
            image = ImageOps.exif_transpose(image)
        return np.array(_resized(_to_rgb(image, path), short_side, path))

    return _read(Path(path), decode)


def read_mask(path: Path) -> np.ndarray:
    """A label mask as (H, W) uint8: palette indices or grey levels, never converted through colours.

    1-bit masks give 0 and 1. Raises InputError for more than one channel (an RGB mask has lost its ids) and
    for ids beyond 255."""

    def decode(image: Image.Image) -> np.ndarray:
        image.load()
        if image.mode not in ("P", "L", "1") and not image.mode.startswith("I"):
            raise InputError(f"{path}: mode {image.mode} has no ids; save it as a palette or grey PNG of ids")
        ids = np.array(image)
        if ids.max(initial=0) > 255 or ids.min(initial=0) < 0:
            raise InputError(f"{path}: ids {ids.min()}..{ids.max()} in a mask; 0..255 are allowed")
        return ids.astype(np.uint8)

    return _read(Path(path), decode)


def image_size(path: Path) -> tuple[int, int]:
    """(H, W) of the image that `read_image` would return, from the file's header alone."""

    def decode(image: Image.Image) -> tuple[int, int]:
        turned = False
        with suppress(Exception):  # as in `read_image`
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
        return (image.width, image.height) if turned else (image.height, image.width)

    return _read(Path(path), decode)


def resize_image(image: np.ndarray, short_side: int) -> np.ndarray:
    """(H, W, 3) uint8 resized, antialiased, to a shorter side of `short_side` pixels."""
    return np.array(_resized(Image.fromarray(image), short_side, Path("image")))


def one_line(error: Exception) -> str:
    """What an exception of a decoder says, for an InputError's one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _read(path: Path, decode: Callable[[Image.Image], Any]) -> Any:
    try:
        status = path.stat()
        if stat.S_IFMT(status.st_mode) not in (stat.S_IFREG, stat.S_IFDIR):  # a pipe would wait for ever
            raise InputError(f"{path}: not a regular file; give an image file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd EXIF tags and the like; a bomb is caught by its size below
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise Image.DecompressionBombError
                return decode(image)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check HGRL_DATA and that the data set is complete") from None
    except (IsADirectoryError, PermissionError) as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check path and permissions") from None
    except Image.DecompressionBombError:
        raise InputError(f"{path}: more than {MAX_PIXELS} pixels; resize it or remove it") from None
    except UnidentifiedImageError:
        what = "not an image, or of an unknown format" if status.st_size else "an empty file, not an image"
        raise InputError(f"{path}: {what}; replace it or remove it") from None
    except MemoryError:
        raise InputError(f"{path}: too large for this machine's memory; resize it or remove it") from None
    except Exception as error:  # decoders raise whatever they like, from SyntaxError to struct.error
        what = f"truncated or damaged image ({one_line(error)})"
        raise InputError(f"{path}: {what}; fetch it again or remove it") from error


def _to_rgb(image: Image.Image, path: Path) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        levels = np.asarray(image, dtype=np.int64)
        if levels.min() < 0 or levels.max() > 65535:
            raise InputError(f"{path}: levels {levels.min()}..{levels.max()}; save it with 8 or 16 bits")
        return Image.fromarray(((levels + 128) // 257).astype(np.uint8)).convert("RGB")  # 65535 = 255 * 257
    if image.mode == "F":
        raise InputError(f"{path}: floating point has no fixed white; save it with 8 bits per channel")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        page = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(page, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _resized(image: Image.Image, short_side: int | None, path: Path) -> Image.Image:
    if short_side is None or min(image.size) == short_side:
        return image
    scale = short_side / min(image.size)
    width, height = (max(short_side, round(side * scale)) for side in image.size)
    if width * height > MAX_PIXELS:
        raise InputError(f"{path}: resized, {width}x{height} pixels, it is too long; crop it or remove it")
    return image.resize((width, height), Image.Resampling.BILINEAR)  # antialiased: Pillow widens the filter
