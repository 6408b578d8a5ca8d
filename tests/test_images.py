"""Whatever a file holds: an RGB array or one line that names it."""

from __future__ import annotations

import io
import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from hgrl.core.errors import InputError
from hgrl.data import images
from hgrl.data.images import image_size, read_image, read_mask, resize_image

RED, WHITE = (200, 30, 40), (255, 255, 255)


def picture(height=20, width=30):
    """A smooth colour picture, so that JPEG changes it little."""
    y, x = np.mgrid[:height, :width]
    return np.stack([8 * x, 10 * y, 4 * (x + y)], axis=2).clip(0, 255).astype(np.uint8)


def save(path, array, mode=None, **options):
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(path, **options)
    return path


def refuses(read, path, *words):
    with pytest.raises(InputError) as caught:
        read(path)
    line = str(caught.value)
    assert str(path) in line and "\n" not in line and ";" in line, (
        "one line: the file, the reason, the remedy"
    )
    for word in words:
        assert word in line
    return line


def test_rgb_png_is_read_as_it_is(tmp_path):
    assert np.array_equal(read_image(save(tmp_path / "a.png", picture())), picture())


def test_array_is_writable_and_contiguous(tmp_path):
    image = read_image(save(tmp_path / "a.png", picture()))
    image[0, 0] = 0
    assert image.flags.c_contiguous and image.dtype == np.uint8


def test_grey_becomes_three_equal_channels(tmp_path):
    grey = picture()[..., 0]
    image = read_image(save(tmp_path / "grey.png", grey))
    assert np.array_equal(image, np.stack([grey] * 3, axis=2))


def test_16_bit_grey_is_scaled_to_8(tmp_path):
    levels = np.array([[0, 128, 257, 32896, 65535]], dtype=np.uint16)
    image = read_image(save(tmp_path / "deep.png", levels))
    assert image[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_16_bit_rgb_is_scaled_to_8(tmp_path):
    """Pillow cannot write one, so the file is put together by hand."""
    path = tmp_path / "deep_rgb.png"
    path.write_bytes(
        png_bytes(1, 1, bit_depth=16, colour_type=2, rows=b"\0" + struct.pack(">3H", 65535, 32896, 0))
    )
    assert read_image(path).tolist() == [[[255, 128, 0]]]


def test_1_bit_image(tmp_path):
    assert set(np.unique(read_image(save(tmp_path / "bits.png", np.eye(4, dtype=bool))))) == {0, 255}


def test_cmyk_jpeg(tmp_path):
    image = read_image(save(tmp_path / "cmyk.jpg", picture(), mode="CMYK", quality=95))
    assert image.shape == (20, 30, 3)
    assert np.abs(image.astype(int) - picture()).mean() < 6


def test_alpha_is_composited_on_white(tmp_path):
    rgba = np.zeros((1, 3, 4), dtype=np.uint8)
    rgba[0, :, :3] = RED
    rgba[0, :, 3] = 255, 0, 128
    opaque, clear, half = read_image(save(tmp_path / "alpha.png", rgba))[0].tolist()
    assert opaque == list(RED) and clear == list(WHITE)
    assert np.abs(np.array(half) - (np.array(RED) + WHITE) / 2).max() <= 2


def test_grey_with_alpha(tmp_path):
    image = read_image(save(tmp_path / "la.png", np.array([[[0, 0, 0, 0]]], dtype=np.uint8), mode="LA"))
    assert image.tolist() == [[[255, 255, 255]]]


def test_palette_colours_and_palette_transparency(tmp_path):
    indexed = Image.fromarray(np.array([[0, 1]], dtype=np.uint8))
    indexed.putpalette([*RED, 0, 0, 255])
    indexed.save(tmp_path / "plain.png")
    indexed.save(tmp_path / "clear.png", transparency=1)
    assert read_image(tmp_path / "plain.png").tolist() == [[list(RED), [0, 0, 255]]]
    assert read_image(tmp_path / "clear.png").tolist() == [[list(RED), list(WHITE)]]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "CMYK", "L"])
def test_exif_rotation_is_applied(tmp_path, orientation, mode):
    """All eight orientations of a picture that is bright in its (upright) left top corner only."""
    upright = np.zeros((16, 32, 3), dtype=np.uint8)
    upright[:8, :8] = 255
    # Image.Transpose that the camera has done to the upright picture
    inverse = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = Image.fromarray(upright)
    if orientation > 1:
        stored = stored.transpose(Image.Transpose(inverse[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.jpg"
    stored.convert(mode).save(path, exif=exif, quality=95)
    image = read_image(path)
    assert image.shape == (16, 32, 3) == (*image_size(path), 3)
    assert image[:6, :6].mean() > 240 and image[10:].mean() < 15 and image[:, 10:].mean() < 15


def test_damaged_exif_does_not_lose_the_picture(tmp_path):
    path = save(tmp_path / "exif.jpg", picture(), exif=b"Exif\0\0MM\0*\0\0\xff\xff", quality=95)
    assert read_image(path).shape == (20, 30, 3) == (*image_size(path), 3)


def test_one_pixel_and_constant_images(tmp_path):
    assert read_image(save(tmp_path / "dot.png", np.full((1, 1, 3), 7, np.uint8))).tolist() == [[[7, 7, 7]]]
    assert read_image(save(tmp_path / "dot.png", np.full((1, 1, 3), 7, np.uint8)), short_side=8).shape == (
        8,
        8,
        3,
    )
    assert np.unique(
        read_image(save(tmp_path / "flat.png", np.full((30, 40, 3), 9, np.uint8)), short_side=10)
    ).tolist() == [9]


def test_animation_gives_its_first_frame(tmp_path):
    first, second = (Image.fromarray(np.full((4, 4, 3), level, np.uint8)) for level in (0, 255))
    first.save(tmp_path / "moving.gif", save_all=True, append_images=[second])
    assert read_image(tmp_path / "moving.gif").max() == 0


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize(("height", "width"), [(300, 400), (400, 300), (12, 16)])
def test_short_side(tmp_path, suffix, height, width):
    path = save(tmp_path / f"a.{suffix}", np.array(Image.fromarray(picture()).resize((width, height))))
    image = read_image(path, short_side=30)
    assert min(image.shape[:2]) == 30
    assert image.shape[1] / image.shape[0] == pytest.approx(width / height, rel=0.05)


def test_short_side_is_antialiased(tmp_path):
    """A checkerboard of single pixels shrinks to its mean, not to some of its pixels."""
    checks = np.indices((200, 200)).sum(axis=0) % 2 * 255
    for suffix in ("png", "jpg"):
        small = read_image(
            save(tmp_path / f"checks.{suffix}", np.stack([checks] * 3, 2).astype(np.uint8)), short_side=20
        )
        assert np.abs(small[2:-2, 2:-2].astype(int) - 128).max() < 12


def test_reduced_decoding_agrees_with_the_full_one(tmp_path):
    path = save(tmp_path / "large.jpg", np.array(Image.fromarray(picture()).resize((900, 600))), quality=95)
    quick, full = read_image(path, short_side=60), resize_image(read_image(path), 60)
    assert np.abs(quick.astype(int) - full).mean() < 2


def test_missing_file(tmp_path):
    refuses(read_image, tmp_path / "none.jpg", "no such file", "HGRL_DATA")


def test_folder_instead_of_a_file(tmp_path):
    refuses(read_image, tmp_path)


@pytest.mark.parametrize("read", [read_image, read_mask, image_size])
def test_a_pipe_is_refused_at_once(tmp_path, read):
    os.mkfifo(tmp_path / "fifo.jpg")
    refuses(read, tmp_path / "fifo.jpg", "not a regular file")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "fifo.jpg")
    refuses(read, tmp_path / "link.jpg", "not a regular file")


def test_empty_file_and_text(tmp_path):
    (tmp_path / "empty.jpg").touch()
    refuses(read_image, tmp_path / "empty.jpg", "empty")
    (tmp_path / "text.jpg").write_text("<html>404</html>")
    refuses(read_image, tmp_path / "text.jpg", "not an image")


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "tif", "webp"])
def test_truncated_file(tmp_path, suffix):
    path = save(
        tmp_path / f"cut.{suffix}", np.random.default_rng(0).integers(0, 256, (60, 60, 3)).astype(np.uint8)
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refuses(read_image, path, "remove it")


def test_flipped_bits_in_a_png(tmp_path):
    path = save(tmp_path / "flipped.png", picture())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    refuses(read_image, path, "damaged")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["PNG", "JPEG", "GIF", "TIFF"]),
    cut=st.floats(0, 1),
    flips=st.lists(st.floats(0, 0.999), max_size=8),
)
def test_no_damage_gives_anything_but_an_image_or_one_line(tmp_path, kind, cut, flips):
    buffer = io.BytesIO()
    Image.fromarray(picture()).save(buffer, kind)
    content = bytearray(buffer.getvalue())
    for place in flips:
        content[int(place * len(content))] ^= 0x55
    path = tmp_path / "damaged"
    path.write_bytes(content[: int(cut * len(content))])
    try:
        image = read_image(path)
    except InputError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:
        assert image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8


def test_decompression_bomb(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_bytes(50_000, 50_000, bit_depth=8, colour_type=2, rows=b""))
    refuses(read_image, path, "pixels")
    # between Pillow's warning and its error
    path.write_bytes(png_bytes(10_000, 9_000, bit_depth=8, colour_type=2, rows=b""))
    refuses(read_image, path, str(images.MAX_PIXELS))


def test_thread_of_an_image_cannot_be_enlarged_without_end(tmp_path):
    path = save(tmp_path / "thread.png", np.zeros((1, 30_000, 3), np.uint8))
    assert read_image(path).shape == (1, 30_000, 3)
    refuses(lambda p: read_image(p, short_side=64), path, "too long")


def test_floating_point_image(tmp_path):
    refuses(read_image, save(tmp_path / "float.tif", np.zeros((3, 3), np.float32)), "8 bits")


def test_32_bit_levels_beyond_16_bits(tmp_path):
    refuses(read_image, save(tmp_path / "wide.tif", np.array([[0, 70_000]], np.int32)), "70000")


def test_mask_keeps_palette_indices(tmp_path):
    mask = Image.fromarray(np.array([[0, 15], [255, 3]], dtype=np.uint8))
    mask.putpalette(list(np.random.default_rng(0).integers(0, 256, 768)))
    mask.save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png").tolist() == [[0, 15], [255, 3]]


def test_mask_of_grey_levels_bits_and_16_bits(tmp_path):
    ids = np.array([[0, 11, 255]], dtype=np.uint8)
    assert read_mask(save(tmp_path / "grey.png", ids)).tolist() == ids.tolist()
    assert read_mask(save(tmp_path / "bits.png", ids > 0)).tolist() == [[0, 1, 1]]
    deep = read_mask(save(tmp_path / "deep.png", ids.astype(np.uint16)))
    assert deep.tolist() == ids.tolist() and deep.dtype == np.uint8


def test_mask_of_colours_is_refused(tmp_path):
    refuses(read_mask, save(tmp_path / "rgb.png", picture()), "mode RGB", "palette")
    refuses(read_mask, save(tmp_path / "alpha.png", picture(), mode="RGBA"), "mode RGBA")


def test_mask_of_large_ids_is_refused(tmp_path):
    refuses(read_mask, save(tmp_path / "deep.png", np.array([[0, 256]], np.uint16)), "256")


def test_mask_that_is_missing_or_damaged(tmp_path):
    refuses(read_mask, tmp_path / "none.png", "no such file")
    (tmp_path / "cut.png").write_bytes(save(tmp_path / "whole.png", picture()[..., 0]).read_bytes()[:50])
    refuses(read_mask, tmp_path / "cut.png")


def png_bytes(width, height, bit_depth, colour_type, rows):
    def chunk(kind, content):
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
