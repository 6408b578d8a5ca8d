"""SegSort: K-means and loss against plain loops over images, cells and segments."""

import numpy as np
import pytest
import torch
from conftest import batch_of, three_regions
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from hgrl.pretraining.methods import build_method
from hgrl.pretraining.methods.segsort import numbered, segment_loss, segment_means, spherical_kmeans, together


def maps(batch=2, dim=4, height=6, width=8, seed=0):
    return normalize(
        torch.randn(
            batch, dim, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        ),
        dim=1,
    )


def slow_kmeans(embedding, clusters, iterations):
    """One image (D, h, w) in NumPy."""
    _, height, width = embedding.shape
    cells, assigned = [], []
    for y in range(height):
        for x in range(width):
            vector = np.append(embedding[:, y, x], [y / height, x / width])
            cells.append(vector / np.linalg.norm(vector))
            assigned.append((y * clusters // height) * clusters + x * clusters // width)
    cells, assigned = np.array(cells), np.array(assigned)
    for _ in range(iterations):
        centres = {}
        for k in sorted(set(assigned)):
            total = cells[assigned == k].sum(0)
            centres[k] = total / np.linalg.norm(total)
        assigned = np.array([max(centres, key=lambda k: cell @ centres[k]) for cell in cells])
    return assigned


@pytest.mark.parametrize("clusters, iterations", [(1, 3), (2, 0), (2, 1), (3, 10), (5, 10), (9, 2)])
def test_kmeans_equals_the_plain_loop_for_each_image(clusters, iterations):
    embedding = maps()
    found = spherical_kmeans(embedding, clusters, iterations)
    for own, image in zip(found.numpy(), embedding.numpy(), strict=True):
        np.testing.assert_array_equal(own, slow_kmeans(image, clusters, iterations))


def test_two_halves_of_different_embedding_are_two_clusters():
    embedding = torch.zeros(1, 2, 8, 8)
    embedding[:, 0, :, :3], embedding[:, 1, :, 3:] = 1.0, 1.0
    found = spherical_kmeans(embedding, 2, 10).view(8, 8)
    assert not set(found[:, :3].flatten().tolist()) & set(found[:, 3:].flatten().tolist())


@hypothesis_settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 999), min_size=7, max_size=7), min_size=1, max_size=4))
def test_numbered_ids_are_ranks_within_their_row(rows):
    expected = [[sorted(set(row)).index(value) for value in row] for row in rows]
    assert numbered(torch.tensor(rows)).tolist() == expected


def slow_loss(cells, segments, concentration):
    total, hits = 0.0, 0
    for image, ids in zip(cells.numpy(), segments.numpy(), strict=True):
        means = {k: image[ids == k].sum(0) / np.linalg.norm(image[ids == k].sum(0)) for k in set(ids)}
        for cell, own in zip(image, ids, strict=True):
            weights = {k: np.exp(concentration * cell @ mean) for k, mean in means.items()}
            total -= np.log(weights[own] / sum(weights.values()))
            hits += max(weights, key=weights.get) == own
    return total / ids.size / len(cells), hits / ids.size / len(cells)


@pytest.mark.parametrize("concentration", [1.0, 10.0])
def test_the_loss_equals_the_slow_loop(concentration):
    cells = maps().flatten(2).mT
    segments = torch.randint(0, 5, (2, 48), generator=torch.Generator().manual_seed(1))
    segments[1] = segments[1].clamp_max(2)  # fewer segments in one image than in the other
    loss, hits = segment_loss(cells, segments, 9, concentration)  # and numbers that no cell has
    assert (loss.item(), hits.item()) == pytest.approx(slow_loss(cells, segments, concentration))


def test_one_segment_alone_costs_nothing():
    cells = maps().flatten(2).mT
    assert segment_loss(cells, torch.zeros(2, 48, dtype=torch.long), 3, 10.0)[0].item() == pytest.approx(
        0, abs=1e-12
    )


def test_images_do_not_contrast_with_each_other():
    cells, segments = (
        maps().flatten(2).mT,
        torch.randint(0, 4, (2, 48), generator=torch.Generator().manual_seed(1)),
    )
    alone = sum(segment_loss(cells[i : i + 1], segments[i : i + 1], 4, 10.0)[0] for i in range(2)) / 2
    torch.testing.assert_close(segment_loss(cells, segments, 4, 10.0)[0], alone)


def slow_batch_loss(cells, segments, views, concentration):
    """Every cell against the segments of all images of its view."""
    images, total = len(cells) // views, 0.0
    for view in range(views):
        own = range(view * images, (view + 1) * images)
        members = {}
        for image in own:
            for cell, segment in zip(cells[image].numpy(), segments[image].tolist(), strict=True):
                members.setdefault((image, segment), []).append(cell)
        means = {key: np.sum(found, 0) / np.linalg.norm(np.sum(found, 0)) for key, found in members.items()}
        for image in own:
            for cell, segment in zip(cells[image].numpy(), segments[image].tolist(), strict=True):
                weights = {key: np.exp(concentration * cell @ mean) for key, mean in means.items()}
                total -= np.log(weights[image, segment] / sum(weights.values()))
    return total / segments.numel()


@pytest.mark.parametrize("views", [1, 2])
def test_the_loss_over_the_batch_equals_the_slow_loop(views):
    cells = maps(batch=6).flatten(2).mT
    segments = torch.randint(0, 5, (6, 48), generator=torch.Generator().manual_seed(1))
    segments[1] = segments[1].clamp_max(2)
    joined = together(cells, segments, 9, views)
    assert joined[0].shape == (views, 288 // views, 4) and joined[1].max() < joined[2]
    loss, _ = segment_loss(*joined, 10.0, shared=True)
    assert loss.item() == pytest.approx(slow_batch_loss(cells, segments, views, 10.0))


def test_the_scope_is_a_setting_and_the_batch_has_more_to_tell_apart(tiny):
    losses = {}
    for scope in ("image", "batch"):
        torch.manual_seed(0)
        method = build_method(
            "segsort", tiny({"methods.segsort.clusters": 1, "methods.segsort.scope": scope})
        )
        losses[scope] = method.loss(batch_of([three_regions()] * 4))[0].item()
    assert losses["batch"] > losses["image"] + 0.5


def test_one_cluster_leaves_the_regions_as_they_are(tiny, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        "hgrl.pretraining.methods.segsort.segment_loss",
        lambda cells, segments, *_: (seen.update(s=segments), (cells.sum(), cells.sum()))[1],
    )
    batch = batch_of([three_regions()] * 2)
    settings = tiny({})
    own = settings.methods | {"segsort": {}}
    build_method("segsort", settings.model_copy(update={"methods": own})).loss(batch)
    assert torch.equal(seen["s"], numbered(batch.labels.flatten(0, 1).flatten(1).long()))


def test_an_empty_segment_is_absent_and_has_no_nan():
    means, present = segment_means(torch.eye(2).expand(1, 2, 2), torch.tensor([[0, 0]]), 3)
    assert present.tolist() == [[True, False, False]]
    assert torch.isfinite(means).all() and not means[0, 1:].any()


def test_segments_never_cross_a_region(tiny, monkeypatch):
    """The method's own segments: K-means clusters cut along the leaves."""
    seen = {}
    method = build_method("segsort", tiny())

    def remembering(cells, segments, count, concentration, shared):
        seen.update(s=segments, n=count)
        return cells.sum(), cells.sum()

    monkeypatch.setattr("hgrl.pretraining.methods.segsort.segment_loss", remembering)
    batch = batch_of([three_regions()] * 2)
    method.loss(batch)
    regions = batch.labels.flatten(0, 1).flatten(1)
    for ids, labels in zip(seen["s"], regions, strict=True):
        assert all(len(labels[ids == k].unique()) == 1 for k in ids.unique())
        assert len(ids.unique()) > len(labels.unique())
    assert seen["s"].max() < seen["n"] <= 64
