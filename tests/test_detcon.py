"""DetCon: loss, pooling and drawing of regions against plain loops; which regions it is given."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from conftest import batch_of, one_region, three_regions, told
from jobs import job_of
from torch.nn.functional import normalize

from hgrl.data.normalise import normalise
from hgrl.pretraining.loop import TrainingLoop
from hgrl.pretraining.methods import build_method
from hgrl.pretraining.methods.base import method_settings
from hgrl.pretraining.methods.detcon import (
    PHOTOGRAPH,
    DetCon,
    DetConSettings,
    cut_regions,
    draw_regions,
    felzenszwalb_regions,
    pooled,
    region_loss,
)

CPU = torch.device("cpu")


def unit(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


def slow_loss(queries, keys, shown, temperature):
    """queries, keys (V, B, K, D); shown (V, B, K)."""
    views, batch, count = shown.shape
    terms = []
    for view in range(views):
        for image in range(batch):
            for region in range(count):
                if not shown[:, image, region].all():
                    continue
                query, total = queries[view, image, region], 0.0
                for other in np.ndindex(views, batch, count):
                    if shown[other] and other != (view, image, region):
                        total += math.exp(float(query @ keys[other]) / temperature)
                own = math.exp(float(query @ keys[1 - view, image, region]) / temperature)
                terms.append(-math.log(own / total))
    return sum(terms) / max(len(terms), 1)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
@pytest.mark.parametrize("part", [0.0, 0.3, 1.0])
def test_the_loss_equals_the_slow_loop_over_regions(temperature, part):
    queries, keys = unit(2, 3, 4, 5), unit(2, 3, 4, 5, seed=1)
    shown = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(2)) >= part
    given = keys.transpose(0, 1), shown.transpose(0, 1), temperature
    loss, similarity = region_loss(queries, shown, *given)
    assert loss.item() == pytest.approx(slow_loss(queries, keys, shown, temperature), rel=1e-10)
    both = shown.all(0).expand_as(shown)
    cosines = (queries * keys.flip(0)).sum(-1)
    assert similarity.item() == pytest.approx(cosines[both].mean().item() if both.any() else 0)


def test_pooled_features_are_the_means_over_each_mask():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 3, 5, 2, 3, generator=generator)
    masks = (torch.rand(2, 3, 4, 8, 12, generator=generator) > 0.6).float()
    masks[0, 1, 2] = 0
    found = pooled(maps, masks)
    for view, image, region in np.ndindex(2, 3, 4):
        total, cells = torch.zeros(5), 0
        for y, x in np.argwhere(masks[view, image, region].numpy()):
            total, cells = total + maps[view, image, :, y // 4, x // 4], cells + 1
        torch.testing.assert_close(found[view, image, region], total / max(cells, 1))


def test_regions_are_drawn_once_and_those_that_both_views_show_first():
    labels = torch.zeros(2, 2, 2, 4, dtype=torch.uint8)
    labels[0, 0] = torch.tensor([[0, 0, 3, 3], [7, 7, 200, 9]])
    labels[1, 0] = torch.tensor([[3, 3, 3, 7], [255, 7, 7, 7]])
    drawn = set()
    for seed in range(40):
        chosen, shown = draw_regions(labels, 4, torch.Generator().manual_seed(seed))
        first, rest = chosen[0, :2].tolist(), chosen[0, 2:].tolist()
        assert set(first) == {3, 7} and shown[:, 0, :2].all()
        assert len(set(rest)) == 2 and set(rest) < {0, 200, 9, 255} and (shown[:, 0, 2:].sum(0) == 1).all()
        assert chosen[1, 0] == 0 and shown[:, 1].sum() == 2  # an image of one region
        drawn.add(tuple(rest))
    assert len(drawn) > 6
    chosen, shown = draw_regions(labels, 999, torch.Generator())
    for view in range(2):
        assert set(chosen[0][shown[view, 0]].tolist()) == set(labels[view, 0].unique().tolist())


def test_the_methods_loss_is_of_what_its_parts_give(tiny):
    """In evaluation mode, where neither groups nor their order matter; keys are the momentum encoder's."""
    torch.manual_seed(0)
    method, batch = build_method("detcon", tiny()).eval(), batch_of([three_regions()] * 4)
    torch.manual_seed(1)
    for value in method.key_encoder.copies.parameters():
        value.data.add_(0.01 * torch.randn_like(value))
    before = [value.clone() for value in method.key_encoder.copies.parameters()]
    loss, _ = method.loss(batch)
    followed = [*method.network.backbone.parameters(), *method.projector.parameters()]
    for key, old, value in zip(method.key_encoder.copies.parameters(), before, followed, strict=True):
        torch.testing.assert_close(key, 0.9 * old + 0.1 * value)
    codes = []
    for backbone, *heads in (
        (method.network.backbone, method.projector, method.predictor),
        method.key_encoder.copies,
    ):
        found = torch.zeros(2, 4, 3, 8, dtype=torch.float64)
        for view, image, region in np.ndindex(2, 4, 3):
            stage = backbone(normalise(batch.images[view, image : image + 1]))[-1][0].detach()  # C, 2, 2
            own = (batch.labels[view, image] == region).float()
            code = (stage.repeat_interleave(4, 1).repeat_interleave(4, 2) * own).sum((1, 2)) / own.sum()
            for head in heads:
                code = head(code)
            found[view, image, region] = normalize(code.detach().double(), dim=0)
        codes.append(found)
    expected = slow_loss(*codes, torch.ones(2, 4, 3, dtype=torch.bool), 0.1)
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_the_key_encoders_momentum_rises_to_one(settings):
    method, found = build_method("detcon", settings), []
    for progress in (0.0, 0.5, 1.0):
        method.loss(batch_of([three_regions()] * 2, progress=progress))
        found.append(method.key_encoder.momentum)
    assert found == pytest.approx([0.9, 0.95, 1.0])


@pytest.mark.parametrize("trees", [[one_region()], [one_region()] * 2, [three_regions(), one_region()]])
def test_images_of_one_region_and_batches_of_one_give_no_nan(trees, settings):
    method = build_method("detcon", settings)
    loss, _ = method.loss(batch_of(trees))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)


def test_felzenszwalbs_regions_are_connected_large_enough_and_follow_the_images_size():
    left, right = np.zeros((60, 100, 3), np.uint8), np.full((60, 60, 3), 200, np.uint8)
    noise = np.random.default_rng(0).integers(0, 20, (60, 160, 3), dtype=np.uint8)
    small = np.concatenate([left, right], 1) + noise
    found = felzenszwalb_regions(small, None, 1000.0)
    assert (found.dtype, found.shape) == (np.uint8, (60, 160))
    (dark,), (light,) = (np.unique(side) for side in (found[:, :96], found[:, 110:]))
    assert dark != light
    assert np.array_equal(found, felzenszwalb_regions(small, None, 1000.0))
    speckled = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    sizes = np.bincount(felzenszwalb_regions(speckled, None, 750.0).ravel())
    assert sizes.min() >= 750 * 90 * 120 / PHOTOGRAPH and len(sizes) <= 250


def test_the_trees_cut_is_a_number_of_regions_or_a_height():
    tree = three_regions()
    for cut, regions in ((1, 1), (2, 2), (9, 3), (0.0, 3), (0.25, 2), (0.5, 2), (0.75, 1), (1.0, 1)):
        assert len(np.unique(cut_regions(None, tree, cut))) == regions


@pytest.mark.parametrize("own, kind", [({}, felzenszwalb_regions), ({"regions": "tree"}, cut_regions)])
def test_views_have_the_regions_of_the_setting_at_the_images_size(own, kind, tiny, dataset, tmp_path):
    settings = tiny({f"methods.detcon.{key}": value for key, value in own.items()} | {"data.short_side": 80})
    views = TrainingLoop(job_of(dataset, settings, tmp_path / "a.pt", method="detcon"), CPU).views
    assert isinstance(views.partition, partial) and views.partition.func is kind
    image, labels, rest = views._read(0)
    assert labels.shape == image.shape[1:] == (80, 96) and not rest["distances"].any()
    expected = kind(image.permute(1, 2, 0).numpy(), three_regions(80, 96), **views.partition.keywords)
    assert np.array_equal(labels.numpy(), expected)
    assert len(labels.unique()) > 1 and views[0, 0]["labels"].shape == (2, 8, 8)


def test_other_methods_have_the_trees_leaves(settings, dataset, tmp_path):
    loop = TrainingLoop(job_of(dataset, settings, tmp_path / "a.pt", method="segsort"), CPU)
    assert loop.views.partition is None and loop.views[0, 0]["distances"].any()


def test_a_cut_is_whole_or_a_fraction_and_more_regions_than_labels_have_is_refused(tiny):
    def own(**changes):
        given = tiny({f"methods.detcon.{key}": value for key, value in changes.items()})
        return method_settings(given, "detcon", DetConSettings)

    assert [type(own(cut=cut).cut) for cut in (8, 0.3, 1)] == [int, float, int]
    for wrong in ({"cut": 0}, {"cut": 1.5}, {"scale": 300}):
        assert "setting 'methods.detcon." in told(partial(own, **wrong))
    assert DetCon.partition(tiny()).keywords == {"scale": 1000.0}
