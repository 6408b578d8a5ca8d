"""Scenes of one object and of many: alike but for the objects, and no other file changes for them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt
from test_scenes import COUNTED, FEW, TINY, checksums, few, voc  # noqa: F401 - few is a fixture

from hgrl.data.scenes import draw as scenes
from hgrl.data.scenes.draw import MARKER, MIN_VISIBLE, draw_counted, is_complete, make_scenes
from hgrl.data.scenes.objects import APART, MANY, SINGLE, WHOLE, _place


def test_counted_scenes_change_no_other_file_and_are_made_when_asked_for(tmp_path):
    make_scenes(tmp_path / "without", TINY)
    make_scenes(tmp_path / "with", TINY)
    assert not is_complete(tmp_path / "with", COUNTED)
    make_scenes(tmp_path / "with", COUNTED)
    assert is_complete(tmp_path / "with", COUNTED)
    without, both = checksums(tmp_path / "without"), checksums(tmp_path / "with")
    new = both.keys() - without.keys()
    assert {path for path in without if without[path] != both[path]} == {MARKER}
    assert len(new) == 2 * (3 + 1) and all(("single" in path) != ("many" in path) for path in new)
    for split in (SINGLE, MANY):
        samples = voc(tmp_path / "with", split)
        assert len(samples) == 3 and samples.masks is None
        drawn = [draw_counted(COUNTED, split, index)[1].image for index in range(3)]
        assert all(np.abs(samples.image(i).astype(int) - drawn[i]).mean() < 8 for i in range(3)), (
            "JPEG of that picture"
        )


@pytest.fixture(scope="module")
def pairs():
    """[(scene, picture) of one object, (scene, picture) of many] for the first 40 indices."""
    return [[draw_counted(FEW, split, index) for split in (SINGLE, MANY)] for index in range(40)]


def test_one_object_or_five_to_seven_and_all_are_seen(pairs):
    for (one, one_picture), (many, many_picture) in pairs:
        assert len(one.things) == 1 and 5 <= len(many.things) <= 7
        for scene, picture in ((one, one_picture), (many, many_picture)):
            seen = np.bincount(picture.objects.ravel(), minlength=len(scene.things) + 1)
            assert len(seen) == len(scene.things) + 1 and seen.min() >= MIN_VISIBLE * picture.objects.size
    assert {len(many.things) for _, (many, _) in pairs} == {5, 6, 7}


def test_one_and_many_have_the_same_backdrop_light_and_noise(pairs):
    for (one, one_picture), (many, many_picture) in pairs:
        assert np.array_equal(one.backdrop, many.backdrop) and np.array_equal(one.areas, many.areas)
        assert (one.shadow, one.blur, one.noise) == (many.shadow, many.blur, many.noise) and np.array_equal(
            one.light, many.light
        )
        reach = np.minimum(
            *(distance_transform_edt(picture.objects == 0) for picture in (one_picture, many_picture))
        )
        far = reach > 18  # px: beyond shadows
        assert np.array_equal(one_picture.image[far], many_picture.image[far])
    assert not np.array_equal(pairs[0][0][0].backdrop, pairs[1][0][0].backdrop)


def test_the_one_is_the_first_of_the_many_and_as_large_as_all(pairs):
    for (one, _), (many, _) in pairs:
        (thing,), first = one.things, many.things[0]
        assert (thing.class_id, thing.texture, thing.parting, thing.angle) == (
            first.class_id,
            first.texture,
            first.parting,
            first.angle,
        )
        assert np.array_equal(thing.colours, first.colours)
        assert WHOLE[0] <= thing.radius <= WHOLE[1]
        assert thing.radius**2 == pytest.approx(sum(other.radius**2 for other in many.things))


def test_objects_take_about_as_much_of_either_picture_as_of_an_ordinary_one(pairs):
    shares = [np.mean([(pair[k][1].objects > 0).mean() for pair in pairs]) for k in (0, 1)]
    ordinary = np.mean(
        [
            (scenes.draw_picture(FEW, ("voc", "unlabelled"), index)[1].objects > 0).mean()
            for index in range(40)
        ]
    )
    assert shares[0] == pytest.approx(shares[1], rel=0.2) and np.mean(shares) == pytest.approx(
        ordinary, rel=0.35
    )


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 7), whole=st.floats(*WHOLE))
def test_discs_are_placed_inside_and_apart(seed, count, whole):
    rng = np.random.default_rng(seed)
    radii = np.exp(rng.uniform(-0.2, 0.2, size=count))
    radii *= whole / np.sqrt((radii**2).sum())
    centres = _place(radii, rng)
    for a in range(count):
        assert (centres[a] >= radii[a]).all() and (centres[a] <= 1 - radii[a]).all()
        assert all(np.hypot(*(centres[a] - centres[b])) >= APART * (radii[a] + radii[b]) for b in range(a))
