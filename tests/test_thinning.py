"""Non-maximum suppression: against plain loops, on ridges of every direction, at borders."""

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from hgrl.grouping import thinning as edge_thinning
from hgrl.grouping.thinning import normal_angle, suppress, thin_edges


def ridge(degrees, width=2.0):
    """A ridge through the middle of a 61x71 map, its normal `degrees` from the x axis; and the distance to
    its crest.
    """
    y, x = np.mgrid[-30.0:31, -35:36]
    distance = x * np.cos(np.deg2rad(degrees)) + y * np.sin(np.deg2rad(degrees))
    return np.exp(-((distance / width) ** 2)).astype(np.float32), np.abs(distance)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_suppression_is_that_of_plain_loops(seed):
    generator = np.random.default_rng(seed)
    values, angle = (
        generator.random((9, 12)).astype(np.float32),
        generator.uniform(-2, 2, (9, 12)).astype(np.float32),
    )
    out = np.empty_like(values)
    suppress(values, angle, 1.01, out)
    for y, x in np.ndindex(values.shape):
        step = np.array([np.sin(angle[y, x]), np.cos(angle[y, x])])
        beside = scipy.ndimage.map_coordinates(
            values, np.stack([[y, x] + step, [y, x] - step], axis=1), order=1, mode="nearest"
        )
        if abs(1.01 * values[y, x] - beside.max()) > 1e-5:
            assert out[y, x] == (values[y, x] if 1.01 * values[y, x] > beside.max() else 0)


@pytest.mark.parametrize("degrees", range(-75, 91, 15))
def test_the_normal_points_across_a_ridge(degrees):
    values, distance = ridge(degrees)
    crest = normal_angle(values)[15:-15, 15:-15][distance[15:-15, 15:-15] < 1]
    wrong = (np.rad2deg(crest) - degrees + 90) % 180 - 90
    assert np.abs(wrong).max() < 2


@pytest.mark.parametrize("degrees", [0, 20, 45, 70, 90, 110, 135, 160])
def test_a_ridge_is_thinned_to_its_crest(degrees):
    values, distance = ridge(degrees)
    thin = thin_edges(values)
    kept = (thin > 0.1)[8:-8, 8:-8]
    assert distance[8:-8, 8:-8][kept].max() < 1.1
    assert kept.any(axis=0).all() or kept.any(axis=1).all()  # without a gap
    np.testing.assert_array_equal(thin[8:-8, 8:-8][kept], values[8:-8, 8:-8][kept])


def test_edges_fade_at_the_border():
    values = ridge(0)[0]
    thin, whole = thin_edges(values), thin_edges(values, border=0)
    np.testing.assert_array_equal(whole[:, 35], values[:, 35])
    np.testing.assert_allclose(thin[:6, 35], np.arange(6) / 5 * whole[:6, 35], rtol=1e-6)
    np.testing.assert_allclose(thin[-6:, 35], np.arange(6)[::-1] / 5 * whole[-6:, 35], rtol=1e-6)
    np.testing.assert_array_equal(thin[5:-5, 5:-5], whole[5:-5, 5:-5])


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2), (4, 30)])
def test_any_size_works(shape):
    values = np.random.default_rng(0).random(shape).astype(np.float32)
    thin = thin_edges(values, border=0)
    assert thin.shape == shape and thin.dtype == np.float32
    assert ((thin == 0) | (thin == values)).all() and thin.max() == values.max()
    assert thin_edges(values).shape == shape


def test_an_empty_map_stays_empty():
    assert not thin_edges(np.zeros((20, 30))).any()
    assert edge_thinning.TOLERANCE >= 1  # or plateaus would vanish
