"""The run `ours-best`: region contrast and hard negatives, against slow loops."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from conftest import batch_of, three_regions
from torch import nn

from hgrl.core.settings import ObjectiveSettings, SamplingSettings
from hgrl.pretraining.methods import build_method
from hgrl.pretraining.methods.hierarchical_best import pooled_regions, region_contrast, with_hardest
from hgrl.pretraining.objective import contrastive_loss
from hgrl.sampling.pixels import positive_probability, sample_pixels


@pytest.fixture
def regions():
    """Two images of up to three regions; the second view has lost one of the first image's."""
    generator = torch.Generator().manual_seed(3)
    codes, targets = (F.normalize(torch.randn(2, 3, 5, generator=generator), dim=-1) for _ in range(2))
    present = torch.tensor([[True, True, True], [True, True, False]])
    target_present = torch.tensor([[True, False, True], [True, True, False]])
    heights = torch.rand(2, 3, 3, generator=generator)
    distances = (heights + heights.mT) * (1 - torch.eye(3))
    return codes, targets, present, target_present, distances


def test_region_contrast_is_the_slow_loop(regions):
    codes, targets, present, target_present, distances = regions
    terms = []
    for b in range(2):
        for r in range(3):
            if not (present[b, r] and target_present[b, r]):
                continue
            wanted = positive_probability(distances[b], 0.8, target_present[b])[r]
            total = sum(
                math.exp(codes[b, r] @ targets[c, s] / 0.3)
                for c in range(2)
                for s in range(3)
                if target_present[c, s]
            )
            terms.append(
                sum(
                    -wanted[s] * math.log(math.exp(codes[b, r] @ targets[b, s] / 0.3) / total)
                    for s in range(3)
                    if target_present[b, s]
                )
            )
    loss = region_contrast(*regions, 0.8, 0.3)
    assert loss.item() == pytest.approx(float(sum(terms)) / len(terms), rel=1e-5)


def test_region_contrast_of_nothing_is_zero_with_a_zero_gradient(regions):
    codes, targets, present, _, distances = regions
    codes = codes.clone().requires_grad_()
    loss = region_contrast(codes, targets, present, torch.zeros_like(present), distances, 0.8, 0.1)
    loss.backward()
    assert loss.item() == 0 and torch.isfinite(codes.grad).all()


def test_pooled_regions_are_means_of_their_cells():
    columns = torch.randn(2, 2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(3, (2, 2, 3, 3), generator=torch.Generator().manual_seed(1))
    codes, present = pooled_regions(columns, labels, 4, nn.Identity())
    for view in range(2):
        for image in range(2):
            for region in range(4):
                inside = labels[view, image] == region
                assert present[view, image, region] == inside.any()
                if inside.any():
                    mean = columns[view, image][:, inside].mean(1)
                    torch.testing.assert_close(codes[view, image, region], mean / mean.norm())


def test_the_hardest_cross_image_negatives_are_kept_and_no_others():
    batch, settings = batch_of([three_regions()] * 4), SamplingSettings(cns=(2,))
    embedding = torch.randn(2, 4, 6, *batch.labels.shape[-2:], generator=torch.Generator().manual_seed(0))
    sample = sample_pixels(batch.labels, batch.distances, settings, 8, torch.Generator().manual_seed(1))
    kept = with_hardest(embedding, sample, 8, 2)
    own = sample.negatives.shape[-1] - 8
    assert (
        torch.equal(kept.negatives[..., :own], sample.negatives[..., :own])
        and kept.negatives.shape[-1] == own + 2
    )
    cells = F.normalize(embedding.permute(0, 1, 3, 4, 2).flatten(0, 3), dim=-1)
    for image in range(4):
        for anchor in range(sample.anchors.shape[1]):
            vector = cells[sample.anchors[image, anchor]]
            drawn = sorted(
                ((cells[cell] @ vector).item() for cell in sample.negatives[image, anchor, own:]),
                reverse=True,
            )
            found = sorted(
                ((cells[cell] @ vector).item() for cell in kept.negatives[image, anchor, own:]), reverse=True
            )
            assert found == pytest.approx(drawn[:2])


def test_a_reference_gives_positives_and_negatives_and_not_anchors():
    batch = batch_of([three_regions()] * 3)
    shape = (2, 3, 4, *batch.labels.shape[-2:])
    online, target = (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    sample = sample_pixels(
        batch.labels, batch.distances, SamplingSettings(), 5, torch.Generator().manual_seed(2)
    )
    settings = ObjectiveSettings(form="log", temperature=0.3)
    mixed = torch.cat([online, target], 0)  # target cells lie behind the online ones
    offset = online.permute(0, 1, 3, 4, 2).flatten(0, 3).shape[0]
    shifted = replace(sample, positives=sample.positives + offset, negatives=sample.negatives + offset)
    expected = contrastive_loss(mixed, shifted, settings)[0]
    torch.testing.assert_close(contrastive_loss(online, sample, settings, target)[0], expected)
    torch.testing.assert_close(
        contrastive_loss(online, sample, settings, online)[0], contrastive_loss(online, sample, settings)[0]
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"momentum": 0.9},
        {"symmetric": True},
        {"hard_negatives": 3},
        {"region_weight": 1.0},
        {"region_weight": 1.0, "pixel_weight": 0.0},
    ],
)
def test_every_part_can_be_changed_and_changes_the_loss(settings, changes):
    losses = []
    for best in (settings.best, settings.best.model_copy(update=changes)):
        torch.manual_seed(0)
        method = build_method("hierarchical-best", settings.model_copy(update={"best": best}))
        with torch.no_grad():
            for _ in range(2):  # a momentum encoder differs from the network after a step
                loss = method.loss(batch_of([three_regions()] * 4))[0]
                for parameter in method.network.parameters():
                    parameter.mul_(1.1)
        losses.append(loss.item())
    assert losses[0] != losses[1]


def test_without_any_of_its_parts_it_is_equation_1(settings):
    losses = []
    for name in ("hierarchical", "hierarchical-best"):
        torch.manual_seed(0)
        losses.append(build_method(name, settings).loss(batch_of([three_regions()] * 4))[0].item())
    assert losses[0] == losses[1]


def test_the_momentum_encoder_gets_no_gradient_and_follows(settings):
    torch.manual_seed(0)
    best = settings.best.model_copy(update={"momentum": 0.5, "region_weight": 1.0})
    method = build_method("hierarchical-best", settings.model_copy(update={"best": best}))
    with torch.no_grad():
        for parameter in method.network.parameters():
            parameter.add_(1.0)
    before = [p.clone() for p in method.target.parameters()]
    method.loss(batch_of([three_regions()] * 4))[0].backward()
    followed = [*method.network.parameters(), *method.region_head.parameters()]
    for old, new, online in zip(before, method.target.parameters(), followed, strict=True):
        assert new.grad is None
        torch.testing.assert_close(new, (old + online.detach()) / 2)
