"""The one place that reads images and masks: from any file, 8-bit arrays or one clear line come out."""

import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from hgrl.core.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png")  # the data sets' own; any other format is read when it is named
# Pillow's own limit: a small file that unpacks to more is taken for a decompression bomb
MAX_PIXELS = 89_478_485


def read_image(path: Path, short_side: int | None = None) -> np.ndarray:
    """An image file as (H, W, 3) uint8 RGB.

    Grey, palette, CMYK and YCbCr are converted to RGB; 16 bits are scaled to 8; transparency is composited on
    white; EXIF rotation is applied; of an animation the first frame is taken. Colour profiles are ignored:
    the field's networks are trained so. `short_side` resizes, antialiased, so that the shorter side has that
    many pixels (up or down, aspect preserved); a JPEG is then decoded at a reduced size, which is several
    times faster. Raises InputError, naming the file, when it is missing, truncated, too large, no regular
    file, or not an image."""

    def decode(image: Image.Image) -> np.ndarray:
        return np.array(_resized(_upright(_to_rgb(_reduced(image, short_side))), short_side, path))

    return _read(Path(path), decode)


def read_mask(path: Path) -> np.ndarray:
    """A label mask as (H, W) uint8: palette indices or grey levels, never converted through colours.

    1-bit masks give 0 and 1. Raises InputError for more than one channel (an RGB mask has lost its ids) and
    for ids beyond 255."""
    return _read(Path(path), lambda image: _indices(Path(path), image))


def image_size(path: Path) -> tuple[int, int]:
    """(H, W) of the image that `read_image` would return, from the file's header alone."""
    return _read(Path(path), _upright_size)


def resize_image(image: np.ndarray, short_side: int) -> np.ndarray:
    """(H, W, 3) uint8 resized, antialiased, to a shorter side of `short_side` pixels, if it has another."""
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
                    sizes = f"{image.width}x{image.height} is more than {MAX_PIXELS} pixels"
                    raise InputError(f"{path}: {sizes}; resize it or remove it")
                return decode(image)
    except InputError:
        raise
    except FileNotFoundError:
        remedy = "check the data root (HGRL_DATA) and that the data set is complete"
        raise InputError(f"{path}: no such file; {remedy}") from None
    except (IsADirectoryError, PermissionError) as error:
        remedy = "check the path and its permissions"
        raise InputError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
    except Image.DecompressionBombError:
        sizes = f"unpacks to more than {2 * MAX_PIXELS} pixels"
        raise InputError(f"{path}: {sizes}; resize it or remove it") from None
    except UnidentifiedImageError:
        what = "not an image, or of an unknown format" if status.st_size else "an empty file, not an image"
        raise InputError(f"{path}: {what}; replace it or remove it") from None
    except MemoryError:
        raise InputError(f"{path}: too large for this machine's memory; resize it or remove it") from None
    # decoders raise whatever they like (SyntaxError, struct.error...) on bytes that are not what they claim
    except Exception as error:
        remedy = "fetch it again or remove it"
        raise InputError(f"{path}: truncated or damaged image ({one_line(error)}); {remedy}") from error


def _reduced(image: Image.Image, short_side: int | None) -> Image.Image:
    """Lets the JPEG decoder skip detail that the resize would throw away, down to twice the target's size."""
    if short_side is not None:
        scale = 2 * short_side / min(image.size)
        if scale < 1:
            image.draft(None, (round(image.width * scale), round(image.height * scale)))
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    image.load()
    if image.mode.startswith("I;16") or image.mode == "I":
        return _from_16_bits(image)
    if image.mode == "F":
        what = "a floating-point image has no fixed white"
        raise InputError(f"{image.filename}: {what}; save it with 8 bits per channel")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        page = Image.new("RGBA", image.size, "white")
        return _with_exif(layer, Image.alpha_composite(page, layer).convert("RGB"))
    return image if image.mode == "RGB" else _with_exif(image, image.convert("RGB"))


def _from_16_bits(image: Image.Image) -> Image.Image:
    levels = np.asarray(image, dtype=np.int64)
    if levels.min() < 0 or levels.max() > 65535:
        found = f"levels {levels.min()}..{levels.max()} do not fit 16 bits"
        raise InputError(f"{image.filename}: {found}; save it with 8 or 16 bits per channel")
    grey = Image.fromarray(((levels + 128) // 257).astype(np.uint8))  # 65535 = 255 * 257
    return _with_exif(image, grey.convert("RGB"))


def _with_exif(source: Image.Image, target: Image.Image) -> Image.Image:
    if "exif" in source.info:
        target.info["exif"] = source.info["exif"]
    return target


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a damaged EXIF block says nothing of the rotation; the pixels are good
        return image


def _upright_size(image: Image.Image) -> tuple[int, int]:
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
    except Exception:  # as in `_upright`
        turned = False
    return (image.width, image.height) if turned else (image.height, image.width)


def _resized(image: Image.Image, short_side: int | None, path: Path) -> Image.Image:
    if short_side is None or min(image.size) == short_side:
        return image
    scale = short_side / min(image.size)
    width, height = (max(short_side, round(side * scale)) for side in image.size)
    if width * height > MAX_PIXELS:
        sizes = f"{image.width}x{image.height} is too long for a shorter side of {short_side}"
        raise InputError(f"{path}: {sizes}; crop it or remove it")
    # Pillow widens the filter when it shrinks: antialiased
    return image.resize((width, height), Image.Resampling.BILINEAR)


def _indices(path: Path, image: Image.Image) -> np.ndarray:
    image.load()
    if image.mode not in ("P", "L", "1") and not image.mode.startswith("I"):
        remedy = "save it as a palette or grey PNG of ids"
        raise InputError(f"{path}: a mask of mode {image.mode} has colours, not ids; {remedy}")
    ids = np.array(image)
    if ids.max(initial=0) > 255 or ids.min(initial=0) < 0:
        raise InputError(f"{path}: ids {ids.min()}..{ids.max()} in a mask; 0..255 are allowed")
    return ids.astype(np.uint8)
