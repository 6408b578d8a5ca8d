"""Directions of arcs, and edges read along them: hand-drawn lines, a slow loop, and higra's oriented
watershed as a peer.
"""

import higra as hg
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hgrl.grouping.arc_segments import arc_normals
from hgrl.grouping.hierarchy import collect_arcs, watershed, watershed_arcs
from hgrl.grouping.orientation import oriented_weights, weights_at_normals
from hgrl.grouping.thinning import normal_angle

DEGREES = [0, 15, 30, 45, 60, 90, 120, 135, 160]


def half_plane(degrees, side=41):
    """Labels 0 and 1 on both sides of a line through the middle, whose normal is at `degrees` from x towards
    y; and a ridge along it.
    """
    y, x = np.mgrid[:side, :side] - side // 2
    angle = np.deg2rad(degrees)
    offset = np.cos(angle) * x + np.sin(angle) * y - 0.3
    return (offset > 0).astype(np.int64), np.exp(-(offset**2) / 8)


def turned(first, second):
    """The angle between two undirected lines."""
    return np.abs((first - second + np.pi / 2) % np.pi - np.pi / 2)


@pytest.mark.parametrize("degrees", DEGREES)
def test_the_normal_of_a_straight_line_is_its_own(degrees):
    normals = np.concatenate([part[~np.isnan(part)] for part in arc_normals(half_plane(degrees)[0])])
    assert len(normals) >= 41 and (normals >= 0).all() and (normals < np.pi).all()
    assert turned(normals, np.deg2rad(degrees)).max() < 0.04


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_every_arc_and_nothing_else_has_a_normal(seed):
    labels = np.random.default_rng(seed).integers(0, 3, (6, 7))  # worst case: junctions everywhere
    horizontal, vertical = arc_normals(labels)
    np.testing.assert_array_equal(~np.isnan(horizontal), labels[:, :-1] != labels[:, 1:])
    np.testing.assert_array_equal(~np.isnan(vertical), labels[:-1] != labels[1:])


def test_the_normals_turn_with_the_image():
    labels = watershed(np.random.default_rng(1).random((24, 31)))
    horizontal, vertical = arc_normals(labels)
    across, down = arc_normals(labels.T)
    both = np.concatenate(
        [
            turned(horizontal.T, np.pi / 2 - down)[~np.isnan(down)],
            turned(vertical.T, np.pi / 2 - across)[~np.isnan(across)],
        ]
    )
    # a chain may be walked from its other end; ties are then split elsewhere
    assert np.quantile(both, 0.95) < 1e-9


def test_a_corner_is_split_into_its_two_sides():
    labels = np.zeros((20, 20), np.int64)
    labels[8:, 8:] = 1
    horizontal, vertical = arc_normals(labels)
    assert (horizontal[8:, 7] == 0).all() and (vertical[7, 8:] == np.pi / 2).all()


def test_a_closed_arc_has_the_normals_of_a_square():
    labels = np.zeros((30, 30), np.int64)
    labels[5:25, 5:25] = 1
    horizontal, vertical = arc_normals(labels)
    for angles, expected in ((horizontal, 0), (vertical, np.pi / 2)):
        assert np.median(turned(angles[~np.isnan(angles)], expected)) < 1e-9


@pytest.mark.parametrize("degrees", DEGREES)
def test_an_arc_along_its_ridge_keeps_its_strength_and_one_across_loses_it(degrees):
    labels, ridge = half_plane(degrees)
    across = half_plane(degrees + 90)[0]
    along = collect_arcs(labels, *oriented_weights(ridge, arc_normals(labels))).strength[0]
    plain = watershed_arcs_of(labels, ridge)
    assert along > 0.97 * plain
    assert collect_arcs(across, *oriented_weights(ridge, arc_normals(across))).strength[
        0
    ] < 0.4 * watershed_arcs_of(across, ridge)


def watershed_arcs_of(labels, edge_map):
    weights = (edge_map[:, :-1] + edge_map[:, 1:]) / 2, (edge_map[:-1] + edge_map[1:]) / 2
    return collect_arcs(labels, *weights).strength[0]


def test_oriented_weights_are_those_of_the_slow_loop():
    edge_map = np.random.default_rng(2).random((8, 9))
    labels = watershed(edge_map)
    doubled, normals = np.exp(2j * normal_angle(edge_map)), arc_normals(labels)
    found = oriented_weights(edge_map, normals)
    for weights, angles, (down, right) in zip(found, normals, ((0, 1), (1, 0)), strict=True):
        for (y, x), angle in np.ndenumerate(angles):
            ends = (y, x), (y + down, x + right)
            mean = sum(edge_map[end] * doubled[end] for end in ends) / sum(
                edge_map[end] * abs(doubled[end]) for end in ends
            )
            agreement = np.sqrt(max(0, 1 + (mean * np.exp(-2j * angle)).real) / 2)
            expected = 0 if np.isnan(angle) else sum(edge_map[end] for end in ends) / 2 * agreement
            np.testing.assert_allclose(weights[y, x], expected, atol=1e-5)


def test_weights_are_read_in_the_plane_of_the_normal():
    planes = np.arange(8.0)[:, None, None] + np.zeros((8, 20, 20))
    labels = np.zeros((20, 20), np.int64)
    labels[:, 8:] = 1  # normal along x: plane 0
    horizontal, vertical = weights_at_normals(planes, arc_normals(labels.T))
    assert (vertical[7] == 4).all() and not horizontal.any()  # normal along y: plane 4
    assert not weights_at_normals(planes, arc_normals(labels))[0].any()


@pytest.mark.parametrize("degrees", DEGREES)
def test_higra_orders_arcs_as_we_do(degrees):
    """A peer, not an oracle: it floods unsmoothed maps and turns |cos| another way, but an arc's loss by
    turning must agree.
    """
    _, ridge = half_plane(degrees)
    graph = hg.get_4_adjacency_graph(ridge.shape)
    losses = []
    for turn in (0, 60):
        angles = np.full(ridge.shape, np.deg2rad(degrees + turn) % np.pi)
        weights, orientations = (
            hg.weight_graph(graph, ridge, hg.WeightFunction.mean),
            hg.weight_graph(graph, angles, hg.WeightFunction.mean),
        )
        losses.append(hg.oriented_watershed(graph, weights, edge_orientations=orientations)[1].max())
    labels = half_plane(degrees)[0]
    normals = arc_normals(labels)
    ours = [
        collect_arcs(
            labels, *oriented_weights(ridge, tuple((a + np.deg2rad(turn)) % np.pi for a in normals))
        ).strength[0]
        for turn in (0, 60)
    ]
    np.testing.assert_allclose(ours[1] / ours[0], losses[1] / losses[0], atol=0.12)


def test_oriented_arcs_are_never_stronger():
    edge_map = np.random.default_rng(3).random((40, 50))
    mean, oriented = (watershed_arcs(edge_map, name) for name in ("mean", "oriented"))
    np.testing.assert_array_equal(mean.ends, oriented.ends)
    assert (oriented.strength <= mean.strength + 1e-9).all() and (
        oriented.strength < 0.9 * mean.strength
    ).any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (2, 2)])
def test_tiny_images_have_oriented_arcs_too(shape):
    arcs = watershed_arcs(np.full(shape, 0.5), "oriented")
    assert arcs.regions == 1 and len(arcs.strength) == 0
