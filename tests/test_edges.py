"""Edge maps: odd images, sharpening, scales."""

import numpy as np
import pytest
import skimage.data

from hgrl.core.settings import GroupingSettings
from hgrl.grouping.edges import detect_edges

CROP = np.ascontiguousarray(skimage.data.astronaut()[100:221, 150:271])


@pytest.mark.parametrize("sharpen", [0, 2])
def test_an_edge_map_is_of_the_images_size_and_between_0_and_1(sharpen):
    edge_map = detect_edges(CROP, GroupingSettings(sharpen=sharpen))
    assert edge_map.shape == CROP.shape[:2] and edge_map.dtype == np.float32
    assert edge_map.min() >= 0 and 0.3 < edge_map.max() <= 1


@pytest.mark.parametrize("sharpen", [0, 2])
def test_twice_gives_the_same(sharpen):
    settings = GroupingSettings(sharpen=sharpen, scales=(0.5, 1))
    np.testing.assert_array_equal(detect_edges(CROP, settings), detect_edges(CROP, settings))


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (3, 5), (15, 17), (64, 65)])
def test_any_size_works(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    for settings in (GroupingSettings(), GroupingSettings(scales=(0.5, 1, 2), image_scale=1.5)):
        edge_map = detect_edges(image, settings)
        assert edge_map.shape == shape and np.isfinite(edge_map).all()


def test_a_constant_image_has_no_edges():
    assert detect_edges(np.full((50, 60, 3), 128, np.uint8), GroupingSettings()).max() < 0.2


def test_grey_is_read_as_colour():
    grey = CROP[..., 1]
    np.testing.assert_array_equal(
        detect_edges(grey, GroupingSettings()), detect_edges(np.stack([grey] * 3, axis=2), GroupingSettings())
    )


def test_an_edge_reaches_the_border():
    """Without the reflected margin the detector fades there."""
    image = np.full((80, 80, 3), 40, np.uint8)
    image[:, 40:] = 220
    edge_map = detect_edges(image, GroupingSettings())
    assert edge_map[0, 38:42].max() > 0.7 * edge_map[40, 38:42].max()
    assert edge_map[-1, 38:42].max() > 0.7 * edge_map[40, 38:42].max()


def test_scales_are_averaged():
    one, two, both = (
        detect_edges(CROP, GroupingSettings(scales=scales)) for scales in ((1.0,), (2.0,), (1.0, 2.0))
    )
    np.testing.assert_allclose(both, (one + two) / 2, atol=1e-6)
