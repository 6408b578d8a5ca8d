"""HSG: without its levels SegSort to the bit; cuts, groups and the levels' loss against plain loops."""

import numpy as np
import pytest
import torch
from conftest import batch_of, one_region, three_regions
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from jobs import train
from torch.nn.functional import normalize

from hgrl.grouping.region_tree import RegionTree
from hgrl.pretraining.methods import build_method
from hgrl.pretraining.methods.hsg import by_image, cut_leaves, group_loss, leaf_groups, segment_logits

SEGSORT = {"concentration": 10.0, "clusters": 2, "iterations": 3}
VIEWS = {"crop_area": [0.25, 1.0], "jitter": 0.0, "greyscale": 0.0}


@pytest.mark.parametrize("scope", ["image", "batch"])
def test_without_its_levels_it_is_segsort_to_the_bit(scope, tiny, dataset, tmp_path):
    """Losses of all steps, and the weights after them."""
    same = SEGSORT | {"scope": scope}
    given = {"methods.hsg": same | {"weight": 0.0, "augment": VIEWS}, "methods.segsort": same}
    hsg, segsort = (train(dataset, tiny(given), tmp_path / name, method=name) for name in ("hsg", "segsort"))
    assert torch.equal(hsg.losses, segsort.losses) and len(hsg.losses) == 6
    assert hsg.method.keys() == segsort.method.keys()
    assert all(torch.equal(hsg.method[key], segsort.method[key]) for key in hsg.method)
    with_levels = tiny(given | {"methods.hsg": same | {"augment": VIEWS}})
    assert not torch.equal(train(dataset, with_levels, tmp_path / "on", method="hsg").losses, hsg.losses)


@st.composite
def trees(draw):
    """A tree of random merges at different heights, its leaves a row of pixels each."""
    leaves = draw(st.integers(1, 9))
    alive, children = list(range(leaves)), []
    for merge in range(leaves - 1):
        pair = [alive.pop(draw(st.integers(0, len(alive) - 1))) for _ in range(2)]
        children.append(sorted(pair))
        alive.append(leaves + merge)
    heights = np.sort(np.random.default_rng(draw(st.integers(0, 99))).random(leaves - 1)).astype(np.float32)
    labels = np.repeat(np.arange(leaves, dtype=np.uint8)[:, None], 2, 1)
    return RegionTree(labels, np.array(children, np.uint16).reshape(-1, 2), heights)


@hypothesis_settings(max_examples=80, deadline=None)
@given(trees(), st.integers(1, 11))
def test_the_cut_on_the_device_is_the_trees(tree, most):
    padded = torch.zeros(2, 10, 10)
    padded[:, : tree.regions, : tree.regions] = torch.from_numpy(tree.distances())
    found = cut_leaves(padded, most)[1, : tree.regions].numpy()
    expected = tree.cut_into(most)[:, 0]
    assert np.array_equal(found[:, None] == found, expected[:, None] == expected)
    assert all(found[leaf] == np.flatnonzero(expected == expected[leaf])[0] for leaf in range(tree.regions))


def unit_cells(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


def slow_groups(cells, leaves, start, iterations):
    """One image: leaf -> group."""
    means = {}
    for leaf in sorted(set(leaves.tolist())):
        total = sum(cell for cell, own in zip(cells, leaves.tolist(), strict=True) if own == leaf)
        means[leaf] = total / total.norm()
    groups = {leaf: int(start[leaf]) for leaf in means}
    for _ in range(iterations):
        centres = {}
        for group in sorted(set(groups.values())):
            total = sum(means[leaf] for leaf in means if groups[leaf] == group)
            centres[group] = total / total.norm()
        groups = {
            leaf: max(centres, key=lambda g, own=means[leaf]: float(own @ centres[g])) for leaf in means
        }
    return groups


@pytest.mark.parametrize("iterations", [0, 1, 5])
@pytest.mark.parametrize("most", [1, 2, 4, 40])
def test_groups_of_leaves_equal_the_plain_loop(iterations, most):
    cells, points = unit_cells(0, 3, 60, 4), torch.rand(3, 9, generator=torch.Generator().manual_seed(1))
    leaves = torch.randint(0, 9, (3, 60), generator=torch.Generator().manual_seed(2))
    leaves[1] = leaves[1].clamp_min(2)  # absent leaves
    distances = torch.zeros(3, 9, 9)
    for image in range(3):  # an ultrametric: the largest step between two points of a line
        steps = points[image, 1:]
        for a in range(9):
            for b in range(a + 1, 9):
                distances[image, a, b] = distances[image, b, a] = steps[a:b].max()
    found, start = leaf_groups(cells, leaves, distances, most, iterations), cut_leaves(distances, most)
    for image in range(3):
        expected = slow_groups(cells[image], leaves[image], start[image], iterations)
        assert {leaf: int(found[image, leaf]) for leaf in expected} == expected


def slow_group_loss(cells, segments, groups, concentration):
    total = 0.0
    for image, ids, own_groups in zip(cells.numpy(), segments.tolist(), groups.tolist(), strict=True):
        members, group_of = {}, dict(zip(ids, own_groups, strict=True))
        for cell, segment in zip(image, ids, strict=True):
            members.setdefault(segment, []).append(cell)
        means = {key: np.sum(found, 0) / np.linalg.norm(np.sum(found, 0)) for key, found in members.items()}
        for cell, own in zip(image, ids, strict=True):
            weights = {key: np.exp(concentration * cell @ mean) for key, mean in means.items()}
            others = [weights[key] for key in means if group_of[key] == group_of[own] and key != own]
            numerator = sum(others) if others else weights[own]
            denominator = numerator + sum(weights[key] for key in means if group_of[key] != group_of[own])
            total -= np.log(numerator / denominator)
    return total / segments.numel()


@pytest.mark.parametrize("concentration", [1.0, 16.0])
@pytest.mark.parametrize("kinds", [1, 2, 5])
def test_the_levels_loss_equals_the_slow_loop(concentration, kinds):
    cells = unit_cells(3, 3, 50, 4)
    segments = torch.randint(0, 6, (3, 50), generator=torch.Generator().manual_seed(4))
    segments[2] = segments[2].clamp_max(1)
    logits = segment_logits(cells, segments, 9, concentration)
    loss = group_loss(*logits, segments, segments % kinds)
    expected = slow_group_loss(cells, segments, segments % kinds, concentration)
    assert loss.item() == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_the_loss_is_segsorts_and_each_levels_of_both_views_of_an_image(tiny):
    """A region's segments in the two views are of one group."""
    changes = {"groups": [2, 1], "clusters": 1, "group_iterations": 2, "weight": 0.3, "scope": "image"}
    torch.manual_seed(0)
    method, batch = (
        build_method("hsg", tiny({"methods.hsg": changes})).eval(),
        batch_of([three_regions()] * 3),
    )
    loss, parts = method.loss(batch)
    cells, segments, count = method.segments(batch)
    leaf_loss, _ = method.leaf_loss(cells, segments, count, 2)
    expected = leaf_loss.item()
    cells, labels = cells.detach().double(), batch.labels.flatten(2).long()
    for most in (2, 1):
        joined = torch.cat([cells[:3], cells[3:]], 1)
        leaves = torch.cat([labels[0], labels[1]], 1)
        start = torch.tensor([0, 1, 1]) if most == 2 else torch.zeros(3, dtype=torch.long)
        own = [slow_groups(*row, start, 2) for row in zip(joined, leaves, strict=True)]
        groups = torch.tensor(
            [[g[leaf] for leaf in row.tolist()] for g, row in zip(own, leaves, strict=True)]
        )
        level = slow_group_loss(joined, torch.cat([labels[0], labels[1] + 4], 1), groups, 16.0)
        assert parts[f"groups{most}_loss"].item() == pytest.approx(level, rel=1e-4, abs=1e-6)
        expected += 0.3 * level
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_rows_of_both_views_come_together_by_image():
    rows = torch.arange(12).view(6, 2)  # two views of three images
    assert by_image(rows, 2).tolist() == [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]]


@pytest.mark.parametrize("trees", [[one_region()], [one_region(), three_regions()]])
def test_an_image_of_one_region_gives_no_nan(trees, settings):
    method = build_method("hsg", settings)
    loss, _ = method.loss(batch_of(trees))
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in method.parameters()) and torch.isfinite(loss)
