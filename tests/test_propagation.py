"""Propagation of masks: against a dense loop, and its invariances."""

import numpy as np
import pytest
import torch

from hgrl.core.settings import FieldPropagation, Propagation
from hgrl.evaluation.trackers import propagation

PAPER = Propagation(neighbours=5, coordinate_weight=0.7)
FIELD = FieldPropagation(neighbours=5, radius=25, previous_frames=2)  # under 2.1 cells of 5 rows
PLACED = FIELD.model_copy(update={"coordinate_weight": 0.7})
SIMILAR = FIELD.model_copy(update={"temperature": None, "first_frame": False})  # fewer cells than neighbours
NOWHERE = SIMILAR.model_copy(update={"radius": 13, "previous_frames": 1})
# more neighbours than there are cells
EVERYONE = PAPER.model_copy(update={"previous_frames": 1, "neighbours": 500})


def blocks_mask(h, w, cell, objects=2, seed=0):
    """A random id map constant over the grid's cells."""
    ids = np.random.default_rng(seed).integers(0, objects + 1, (h, w)).astype(np.uint8)
    ids[0, 0] = objects
    return ids.repeat(cell, 0).repeat(cell, 1)


def slow_similarity(query, key, i, j, weight, longer):
    """cos(F_i, F_j) - (w |p_i - p_j|)^2 / 2, one pair at a time."""
    cosine = float(query @ key) / (np.linalg.norm(query) * np.linalg.norm(key))
    return cosine - weight**2 * ((i[0] - j[0]) ** 2 + (i[1] - j[1]) ** 2) / longer**2 / 2


def slow_propagate(features, shares, how):
    """The equation by loops over every pair of cells. features: list of (C, h, w); shares: (h, w, n)."""
    _, h, w = features[0].shape
    all_shares = [shares]
    for t in range(1, len(features)):
        earlier = {*range(max(0, t - how.previous_frames), t)} | ({0} if how.first_frame else set())
        new = np.zeros_like(shares)
        for y in range(h):
            for x in range(w):
                pairs = []
                for s in sorted(earlier):
                    for v in range(h):
                        for u in range(w):
                            apart = 60 / min(h, w) * np.hypot(y - v, x - u)  # in cells of 480p at stride 8
                            near = how.radius is None or apart < how.radius
                            if near or (how.first_frame and s == 0):
                                sim = slow_similarity(
                                    features[t][:, y, x],
                                    features[s][:, v, u],
                                    (y, x),
                                    (v, u),
                                    how.coordinate_weight,
                                    max(h, w),
                                )
                                pairs.append((sim, all_shares[s][v, u]))
                pairs = sorted(pairs, key=lambda pair: -pair[0])[: how.neighbours]
                sims = np.array([sim for sim, _ in pairs])
                weights = np.exp(sims / how.temperature) if how.temperature else np.maximum(sims, 1e-6)
                new[y, x] = sum(
                    wt * label for wt, (_, label) in zip(weights / weights.sum(), pairs, strict=True)
                )
        all_shares.append(new)
    return all_shares


def fast_propagate(features, shares, how, monkeypatch):
    """The package's label shares of every frame, caught on their way to being enlarged."""
    caught = []
    monkeypatch.setattr(
        propagation,
        "_enlarge",
        lambda labels, size: caught.append(labels.numpy()) or np.zeros(size, np.uint8),
    )
    mask = torch.from_numpy(shares).permute(2, 0, 1).numpy()
    propagation.propagate(features, mask, how)
    return [shares, *caught]


@pytest.mark.parametrize(
    "how",
    [PAPER, FIELD, PLACED, EVERYONE, SIMILAR, NOWHERE],
    ids=["paper", "field", "field-placed", "all", "near", "own-cell"],
)
@pytest.mark.parametrize("chunk", [1, 300, 10**9])
def test_propagation_equals_the_dense_loop(how, chunk, monkeypatch):
    monkeypatch.setattr(propagation, "CHUNK", chunk)
    rng = np.random.default_rng(3)
    features = [rng.normal(size=(6, 5, 7)).astype(np.float32) for _ in range(5)]
    shares = np.eye(3, dtype=np.float32)[rng.integers(0, 3, (5, 7))]
    fast = fast_propagate([torch.from_numpy(grid) for grid in features], shares, how, monkeypatch)
    for mine, slow in zip(fast, slow_propagate(features, shares, how), strict=True):
        np.testing.assert_allclose(mine, slow, atol=1e-4)


def test_lifted_product_is_the_similarity():
    rng = np.random.default_rng(0)
    grid = torch.from_numpy(rng.normal(size=(4, 3, 5)).astype(np.float32))
    queries, keys = propagation.lift(grid, 0.7)
    for (y, x), (v, u) in [((0, 0), (0, 0)), ((0, 0), (2, 4)), ((1, 3), (2, 0))]:
        expected = slow_similarity(grid[:, y, x].numpy(), grid[:, v, u].numpy(), (y, x), (v, u), 0.7, 5)
        assert float(queries[y, x] @ keys[v, u]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("shape", [(9, 12, 5), (40, 60, 7), (3, 7, 7), (2, 30, 1)])
def test_top_k_equals_torch(shape):
    rows, width, block = shape
    similarity = torch.randn(rows, width // block * block, generator=torch.Generator().manual_seed(0))
    k = min(10, similarity.shape[1])
    values, index = propagation.top_k(similarity, 10, block)
    assert torch.equal(values, similarity.topk(k).values)
    assert torch.equal(similarity.gather(1, index), values)


def test_weights_sum_to_one_even_when_nothing_is_similar():
    sims = torch.tensor([[0.5, 0.25, -0.1], [-0.2, -0.4, -0.9]])
    weights = propagation._weights(sims, PAPER)
    assert weights.sum(1).tolist() == pytest.approx([1, 1])
    assert weights[0].tolist() == pytest.approx([2 / 3, 1 / 3, 0], abs=1e-4)
    assert weights[1].tolist() == pytest.approx([1 / 3] * 3)


def test_first_mask_is_returned_unchanged():
    mask = blocks_mask(4, 6, 4)
    masks = propagation.propagate([torch.randn(8, 4, 6)], propagation.one_hot(mask), PAPER)
    assert len(masks) == 1 and np.array_equal(masks[0], mask) and masks[0].dtype == np.uint8


def test_unique_features_carry_the_mask_along():
    """Every cell has its own feature and the picture moves one cell per frame: the mask moves with it."""
    h, w, cell = 6, 8, 4
    grid = torch.eye(h * w).view(h * w, h, w)
    mask = blocks_mask(h, w, cell)
    how = Propagation(neighbours=1, coordinate_weight=0.1)
    masks = propagation.propagate([torch.roll(grid, t, 2) for t in range(4)], propagation.one_hot(mask), how)
    for t, found in enumerate(masks):
        # at the cells' centres: between them the enlargement is smooth
        cells = found[cell // 2 :: cell, cell // 2 :: cell]
        assert np.array_equal(cells, np.roll(mask, t * cell, 1)[cell // 2 :: cell, cell // 2 :: cell])


def test_position_decides_between_equal_features():
    """Constant features tell nothing apart: with coordinates the mask stays where it is, without them it is
    lost.
    """
    mask = np.zeros((16, 16), np.uint8)
    mask[:, 8:] = 1
    flat = [torch.ones(3, 8, 8)] * 3
    near = propagation.propagate(
        flat, propagation.one_hot(mask), Propagation(coordinate_weight=1.0, neighbours=4)
    )
    assert np.array_equal(near[-1], mask)
    nowhere = propagation.propagate(
        flat, propagation.one_hot(mask), Propagation(coordinate_weight=0.0, neighbours=64)
    )
    assert len(np.unique(nowhere[-1])) == 1


def test_scale_of_features_and_order_of_channels_do_not_matter():
    rng = torch.Generator().manual_seed(0)
    features = [torch.randn(8, 6, 6, generator=rng) for _ in range(3)]
    mask = propagation.one_hot(blocks_mask(6, 6, 2))
    plain = propagation.propagate(features, mask, PAPER)
    changed = propagation.propagate([7 * grid.flip(0) for grid in features], mask, PAPER)
    assert all(np.array_equal(a, b) for a, b in zip(plain, changed, strict=True))


@pytest.mark.parametrize(("settings", "most"), [(PAPER, 2), (FIELD, 3)])
def test_only_the_frames_that_vote_are_kept(settings, most, monkeypatch):
    seen = []
    vote = propagation.vote
    monkeypatch.setattr(
        propagation,
        "vote",
        lambda queries, context, s: seen.append(len(context)) or vote(queries, context, s),
    )
    propagation.propagate(
        (torch.randn(4, 4, 4) for _ in range(8)), propagation.one_hot(blocks_mask(4, 4, 2)), settings
    )
    assert len(seen) == 7 and max(seen) == most


def test_one_hot_counts_void_as_background():
    layers = propagation.one_hot(np.array([[0, 2], [255, 2]], np.uint8))
    assert layers.astype(int).tolist() == [[[1, 0], [1, 0]], [[0, 0], [0, 0]], [[0, 1], [0, 1]]]


def test_the_radius_grows_with_the_grid():
    assert propagation.reach(FieldPropagation(), 60, 107) == 12
    assert propagation.reach(FieldPropagation(), 32, 32) == pytest.approx(6.4)
    assert propagation.reach(Propagation(), 60, 107) == np.inf
