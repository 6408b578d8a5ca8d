"""Edge maps: odd images, both detectors, sharpening, scales."""

import numpy as np
import pytest
import skimage.data
from pydantic import ValidationError

from hgrl.core.settings import GroupingSettings
from hgrl.grouping.edges import detect_edges

BOTH = [("opencv", 0), ("numba", 0), ("numba", 2)]
CROP = np.ascontiguousarray(skimage.data.astronaut()[100:221, 150:271])


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("HGRL_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.mark.parametrize(("detector", "sharpen"), BOTH)
def test_an_edge_map_is_of_the_images_size_and_between_0_and_1(detector, sharpen):
    edge_map = detect_edges(CROP, GroupingSettings(detector=detector, sharpen=sharpen))
    assert edge_map.shape == CROP.shape[:2] and edge_map.dtype == np.float32
    assert edge_map.min() >= 0 and 0.3 < edge_map.max() <= 1


@pytest.mark.parametrize(("detector", "sharpen"), BOTH)
def test_twice_gives_the_same(detector, sharpen):
    settings = GroupingSettings(detector=detector, sharpen=sharpen, scales=(0.5, 1))
    np.testing.assert_array_equal(detect_edges(CROP, settings), detect_edges(CROP, settings))


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee", "rocket"])
def test_both_detectors_agree_without_sharpening(name):
    photograph = np.ascontiguousarray(getattr(skimage.data, name)()[60:301, 100:381])
    first, second = (
        detect_edges(photograph, GroupingSettings(detector=detector, sharpen=0))
        for detector in ("opencv", "numba")
    )
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.995
    sharpened = detect_edges(photograph, GroupingSettings())
    assert 0.8 < np.corrcoef(first.ravel(), sharpened.ravel())[0, 1] < 0.99


def test_opencv_refuses_to_sharpen():
    with pytest.raises(ValidationError, match="cannot sharpen"):
        GroupingSettings(detector="opencv")


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
