"""Pictures made small enough to be committed, or to stand inside a page."""

import io

from PIL import Image

COLOURS, QUALITY = 128, 80  # of a palette; of a JPEG


def palette_png(image: Image.Image, width: int) -> bytes:
    """A PNG of at most COLOURS colours and `width` pixels across; equal pictures give equal bytes."""
    return _saved(_fitted(image, width).quantize(COLOURS), "png", optimize=True)


def smallest(image: Image.Image, width: int) -> tuple[str, bytes]:
    """("png", a palette's) or ("jpeg", of QUALITY), whichever is smaller; at most `width` pixels across."""
    coded = ("png", palette_png(image, width)), ("jpeg", jpeg(image, width))
    return min(coded, key=lambda one: len(one[1]))


def jpeg(image: Image.Image, width: int) -> bytes:
    return _saved(_fitted(image, width), "jpeg", quality=QUALITY, optimize=True)


def _fitted(image: Image.Image, width: int) -> Image.Image:
    """RGB on white, never enlarged."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    fitted = image.convert("RGB")
    fitted.thumbnail((width, image.height), Image.Resampling.LANCZOS)
    return fitted


def _saved(image: Image.Image, kind: str, **options: bool | int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
