"""SIFT Flow: descriptors, data term and messages against loops, beliefs against brute force; motions."""

import itertools

import numpy as np
import pytest
from motions import affine, end_point_error, moved, textured

from hgrl.evaluation.trackers import sift_flow as module
from hgrl.evaluation.trackers.sift_flow import data_term, dense_sift, propagate_beliefs, sift_flow


def slow_descriptor(image, y, x):
    """Cells of soft boxes around (-4, -1, 2, 5), directions by the cosine's 9th power; one pixel's 128."""
    h, w = image.shape[:2]
    at = lambda y, x: image[min(max(y, 0), h - 1), min(max(x, 0), w - 1)].astype(float) / 255  # noqa: E731

    def bands(y, x):
        y, x = min(max(y, 0), h - 1), min(max(x, 0), w - 1)
        dx, dy = (
            (
                at(y - 2 * i, x - 2 * j)
                - 8 * at(y - i, x - j)
                + 8 * at(y + i, x + j)
                - at(y + 2 * i, x + 2 * j)
            )
            / 12
            for i, j in ((0, 1), (1, 0))
        )
        c = (dx**2 + dy**2).argmax()
        angles = 2 * np.pi * np.arange(8) / 8
        strength = np.hypot(dx[c], dy[c])
        cosine = (np.cos(angles) * dx[c] + np.sin(angles) * dy[c]) / max(strength, 1e-12)
        return strength * np.maximum(cosine, 0) ** 9

    soft, found = [0.25, 1, 1, 1, 0.25], []
    for i, j in itertools.product((-4, -1, 2, 5), repeat=2):
        cy, cx = min(max(y + i, 0), h - 1), min(max(x + j, 0), w - 1)
        box = itertools.product(range(5), repeat=2)
        found.append(sum(soft[a] * soft[b] * bands(cy + a - 2, cx + b - 2) for a, b in box))
    found = np.concatenate(found)
    return np.minimum(255 * found / (np.linalg.norm(found) + 0.01), 255)


def test_descriptors_are_those_of_a_loop():
    image = textured(20, 24)
    found = dense_sift(image)
    assert found.shape == (20, 24, 128) and found.dtype == np.uint8
    for y, x in ((0, 0), (10, 12), (19, 5), (7, 23)):
        assert np.abs(found[y, x] - slow_descriptor(image, y, x)).max() <= 1.01


def test_data_term_is_that_of_a_loop():
    random = np.random.default_rng(0)
    first, second = random.integers(0, 256, (2, 4, 5, 128)).astype(np.uint8)
    start = random.integers(-2, 3, (4, 5, 2)).astype(np.int32)
    slow = np.full((4, 5, 3, 3), np.nan)
    for y, x, i, j in np.ndindex(slow.shape):
        row, column = y + start[y, x, 1] + i - 1, x + start[y, x, 0] + j - 1
        if 0 <= row < 4 and 0 <= column < 5:
            slow[y, x, i, j] = np.abs(first[y, x].astype(int) - second[row, column].astype(int)).sum()
    most = np.nanmedian(slow)
    assert np.isnan(slow).any()
    assert np.allclose(data_term(first, second, start, 1), np.minimum(np.nan_to_num(slow, nan=most), most))


@pytest.mark.parametrize("shift", [-7, -2, 0, 1, 3])
def test_a_message_is_the_least_over_all_labels(shift):
    sent = np.random.default_rng(0).uniform(0, 10, 5).astype(np.float32)
    slow = [min(s + min(2 * abs(label + shift - k), 5) for k, s in enumerate(sent)) for label in range(5)]
    message = np.empty(5, np.float32)
    module._send(sent.copy(), message, shift, np.float32(2), np.float32(5))
    assert np.allclose(message, np.array(slow) - min(slow))


def energy(cost, start, flow, alpha, truncation, gamma):
    labels = flow - start + cost.shape[2] // 2
    y, x = np.indices(cost.shape[:2])
    smoothness = [np.minimum(alpha * np.abs(np.diff(flow, axis=axis)), truncation).sum() for axis in (0, 1)]
    return cost[y, x, labels[..., 1], labels[..., 0]].sum() + gamma * np.abs(flow).sum() + sum(smoothness)


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (2, 2)])
def test_beliefs_find_the_least_energy_of_tiny_grids(size):
    """Message passing on a graph with cycles is no exact method: most of ten grids, and all nearly."""
    ratios = []
    for seed in range(10):
        random = np.random.default_rng(seed)
        cost = random.uniform(0, 10, (*size, 3, 3)).astype(np.float32)
        start = random.integers(-1, 2, (*size, 2)).astype(np.int32)
        weights = 1.5, 4.0, 0.1
        moves = itertools.product(list(itertools.product((-1, 0, 1), repeat=2)), repeat=size[0] * size[1])
        least = min(energy(cost, start, np.reshape(move, (*size, 2)) + start, *weights) for move in moves)
        ratios.append(energy(cost, start, propagate_beliefs(cost, start, 60, *weights), *weights) / least)
    assert min(ratios) > 0.999 and np.mean(np.array(ratios) < 1.001) >= 0.8 and np.mean(ratios) < 1.1


@pytest.mark.parametrize("shift", [(3, -5), (-11, 8), (0, 0)])
def test_a_shift_is_found_exactly(shift):
    reference = textured()
    image, flow, inside = moved(reference, affine(shift=shift))
    assert end_point_error(sift_flow(image, reference), flow, inside) < 0.02


@pytest.mark.parametrize("motion", [affine(4, 1.03, (2, 1)), affine(-6, 0.96, (-3, 4))])
def test_an_affine_motion_is_found_to_the_pixel(motion):
    """Labels are whole pixels: even the best have a mean error of .38; under .5 is within a label of it."""
    reference = textured()
    image, flow, inside = moved(reference, motion)
    rounded = end_point_error(np.rint(flow), flow, inside)
    assert 0.35 < rounded < 0.4
    assert end_point_error(sift_flow(image, reference), flow, inside) < 0.5


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (7, 9), (1, 5)])
def test_any_size_and_a_flat_image_give_a_flow(size):
    flat = np.full((*size, 3), 90, np.uint8)
    flow = sift_flow(flat, flat)
    assert flow.shape == (*size, 2) and flow.dtype == np.float32 and not flow.any()
