"""Sharpening: one patch after the other against plain loops, and boundaries that are put where the colours
change.
"""

import itertools

import numpy as np
import pytest
import scipy.ndimage
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st

from hgrl.grouping.edges import shipped_forest
from hgrl.grouping.forest.detect import edge_strength
from hgrl.grouping.forest.model import mask_edges
from hgrl.grouping.forest.samples import pad_image
from hgrl.grouping.forest.sharpen import add_edges, colours

CROP = np.ascontiguousarray(skimage.data.astronaut()[100:196, 150:262])


def votes_of(mask, colour, amount):
    """What the kernel adds for one leaf; colour is that of the 16x16 pixels under its mask."""
    columns, rows = np.nonzero(mask_edges(mask[None])[0].T)
    starts, bins = np.array([0, len(rows)]), (16 * columns + rows).astype(np.uint8)
    out, padded = np.zeros((32, 32), np.float32), np.zeros((32, 32, 3), np.float32)
    padded[8:24, 8:24] = colour
    found = np.zeros((1, 1, 1), np.int32)
    add_edges(found, np.zeros(1, np.int32), mask.reshape(1, 256), starts, bins, padded, amount, out)
    assert out.sum() == out[8:24, 8:24].sum()
    return out[8:24, 8:24]


def neighbours(y, x):
    return [(y, max(x - 1, 0)), (y, min(x + 1, 15)), (max(y - 1, 0), x), (min(y + 1, 15), x)]


def slow_order(edges, amount):
    """Boundary pixels column after column, then ring after ring what adjoins the ring before, corners
    included.
    """
    rings = [[(y, x) for x in range(16) for y in range(16) if edges[y, x]]]
    for _ in range(amount):
        ring = []
        for y, x in rings[-1]:
            for place in [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
                if (
                    min(place) >= 0
                    and max(place) < 16
                    and not any(place in known for known in (*rings, ring))
                ):
                    ring.append(place)
        rings.append(ring)
    return rings


def slow_votes(mask, colour, amount):
    """The paper's sharpening, pixel by pixel."""
    mask = mask.copy()
    rings = slow_order(mask_edges(mask[None])[0], amount)
    some = mask[::2, ::2]
    means = {segment: colour[::2, ::2][some == segment].mean(axis=0) for segment in np.unique(some)}
    for y, x in itertools.chain.from_iterable(rings[:amount]):
        candidates = [mask[place] for place in neighbours(y, x) if mask[place] in means]
        if candidates:
            mask[y, x] = min(candidates, key=lambda segment: ((means[segment] - colour[y, x]) ** 2).sum())
    votes = np.zeros((16, 16))
    for y, x in itertools.chain.from_iterable(rings):
        votes[y, x] = any(mask[place] != mask[y, x] for place in neighbours(y, x))
    return votes


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), segments=st.integers(2, 6), amount=st.integers(1, 4))
def test_a_patch_is_sharpened_as_the_plain_loops_do_it(seed, segments, amount):
    generator = np.random.default_rng(seed)
    centres, (y, x) = generator.uniform(0, 16, (segments, 2)), np.mgrid[:16, :16]
    mask = ((y - centres[:, :1, None]) ** 2 + (x - centres[:, 1:, None]) ** 2).argmin(axis=0).astype(np.uint8)
    colour = generator.uniform(0, 100, (segments + 1, 3))[
        generator.integers(0, segments + 1, (16, 16))
    ].astype(np.float32)
    np.testing.assert_array_equal(votes_of(mask, colour, amount), slow_votes(mask, colour, amount))


def test_thin_segments_without_a_colour_attract_nothing():
    mask = np.zeros((16, 16), np.uint8)
    mask[:, 7] = 1  # an odd column: never looked at for colours
    mask[:, 8:] = 2
    colour = np.zeros((16, 16, 3), np.float32)
    colour[:, 8:] = 50
    expected = np.zeros((16, 16))
    expected[:, 7:9] = 1  # it has gone to its left neighbour
    np.testing.assert_array_equal(votes_of(mask, colour, 2), expected)


@pytest.mark.parametrize("amount", [1, 2, 3])
@pytest.mark.parametrize("vertical", [True, False])
def test_a_boundary_moves_to_where_the_colours_change(amount, vertical):
    colour = np.zeros((16, 16, 3), np.float32)
    colour[:, 8:, 1] = 30
    expected = np.zeros((16, 16), np.float32)
    expected[:, 7:9] = 1
    for start in range(8 - amount, 9 + amount):
        mask = np.zeros((16, 16), np.uint8)
        mask[:, start:] = 1
        votes = votes_of(
            mask if vertical else mask.T.copy(), colour if vertical else colour.transpose(1, 0, 2), amount
        )
        np.testing.assert_array_equal(votes if vertical else votes.T, expected)


def test_a_boundary_moves_no_farther_than_it_may():
    colour = np.zeros((16, 16, 3), np.float32)
    colour[:, 8:, 1] = 30
    mask = np.zeros((16, 16), np.uint8)
    mask[:, 3:] = 1
    columns = np.nonzero(votes_of(mask, colour, 2).any(axis=0))[0]
    assert columns.min() >= 3 and columns.max() <= 5


def test_no_boundary_no_vote():
    generator = np.random.default_rng(0)
    assert (
        votes_of(np.zeros((16, 16), np.uint8), generator.random((16, 16, 3)).astype(np.float32), 2).sum() == 0
    )


def test_sharpened_edges_lie_nearer_to_the_outline():
    y, x = np.mgrid[:96, :112]
    disk = (y - 47.5) ** 2 + (x - 55.5) ** 2 < 30**2
    image = np.where(disk[..., None], [200, 150, 60], [60, 110, 150]).astype(np.uint8)
    outline = mask_edges(disk[None])[0]
    near = scipy.ndimage.distance_transform_edt(~outline) <= 1
    plain, sharp = (
        edge_strength(*shipped_forest(), pad_image(pad_image(image), 8), amount)[24:120, 24:136]
        for amount in (0, 2)
    )
    assert sharp[near].sum() / sharp.sum() > plain[near].sum() / plain.sum() + 0.1


def test_more_sharpening_changes_the_map_and_twice_gives_the_same():
    padded = pad_image(pad_image(CROP), 8)
    maps = [edge_strength(*shipped_forest(), padded, amount) for amount in (0, 1, 2, 3)]
    assert all(np.abs(first - second).max() > 0.05 for first, second in itertools.pairwise(maps))
    np.testing.assert_array_equal(maps[2], edge_strength(*shipped_forest(), padded, 2))


def test_colours_are_cieluv():
    grey = colours(np.full((8, 8, 3), 255, np.uint8))
    np.testing.assert_allclose(grey[4, 4], [100, 0, 0], atol=0.1)
