"""The registry, and the paper's method as the loop sees it."""

import pytest
import torch
from conftest import one_region, three_regions

from hgrl.config import SamplingSettings
from hgrl.errors import InputError
from hgrl.methods import REGISTRY, build_method
from hgrl.methods.base import Method
from hgrl.methods.hierarchical import cns_now
from hgrl.views import Batch


def batch_of(trees, seed=0, progress=0.0):
    """Random images; the labels of each tree at 8x8 cells."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.stack([torch.from_numpy(tree.labels[2::5, 3::6][:8, :8].copy()) for tree in trees])
    distances = torch.zeros(len(trees), 4, 4)
    for own, tree in zip(distances, trees, strict=True):
        own[: tree.regions, : tree.regions] = torch.from_numpy(tree.distances())
    images = torch.randint(256, (2, len(trees), 3, 32, 32), dtype=torch.uint8, generator=generator)
    return Batch(images, torch.stack([labels, labels]), distances, progress, generator)


@pytest.mark.parametrize("name", list(REGISTRY))
def test_every_method_gives_a_finite_scalar_with_gradients(name, settings):
    torch.manual_seed(0)
    method = build_method(name, settings)
    loss, diagnostics = method.loss(batch_of([three_regions()] * 4))
    loss.backward()
    assert loss.shape == () and torch.isfinite(loss)
    assert not any(value.requires_grad for value in diagnostics.values())
    gradients = [p.grad for p in method.network.backbone.parameters()]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients) and any(g.abs().sum() > 0 for g in gradients)


@pytest.mark.parametrize("trees", [[one_region()] * 2, [one_region()], [three_regions()], [one_region(), three_regions()]])
@pytest.mark.parametrize("form", ["ratio", "log"])
def test_images_of_one_region_and_batches_of_one_give_no_nan(trees, form, tiny):
    method = build_method("hierarchical", tiny({"objective.form": form}))
    loss, diagnostics = method.loss(batch_of(trees))
    loss.backward()
    assert torch.isfinite(loss) and all(torch.isfinite(value) for value in diagnostics.values())
    assert all(torch.isfinite(p.grad).all() for p in method.parameters())


def test_an_unknown_method_lists_the_known_ones(settings):
    with pytest.raises(InputError, match="unknown method 'teleport'; choose one of: hierarchical"):
        build_method("teleport", settings)


def test_a_method_must_say_what_its_loss_is(settings):
    with pytest.raises(TypeError, match="Method does not say what its loss is"):
        Method(settings).loss(batch_of([three_regions()]))


def test_fresh_weights_follow_the_seed(settings):
    def weights(seed):
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in build_method("hierarchical", settings).parameters()])

    assert torch.equal(weights(0), weights(0)) and not torch.equal(weights(0), weights(1))


@pytest.mark.parametrize("progress, expected", [(0.0, (5,)), (0.49, (5,)), (0.5, (20,)), (0.999, (20,)), (1.0, (20,))])
def test_cns_5_20_as_a_schedule_is_first_5_then_20(progress, expected):
    assert cns_now(SamplingSettings(cns=(5, 20)), progress) == expected


@pytest.mark.parametrize("progress", [0.0, 0.9])
def test_cns_5_20_as_terms_is_both_all_along(progress):
    assert cns_now(SamplingSettings(cns=(5, 20), cns_reading="terms"), progress) == (5, 20)
    assert cns_now(SamplingSettings(cns=5), progress) == cns_now(SamplingSettings(cns=5, cns_reading="terms"), progress) == (5,)


def test_two_equal_terms_average_to_about_one_of_them(tiny):
    losses = []
    for changes in ({"sampling.cns": [5]}, {"sampling.cns": [5, 5], "sampling.cns_reading": "terms"}):
        torch.manual_seed(0)
        method = build_method("hierarchical", tiny(changes))
        losses.append(sum(method.loss(batch_of([three_regions()] * 4, seed))[0].item() for seed in range(10)) / 10)
    assert losses[0] == pytest.approx(losses[1], rel=0.1)


def test_more_negatives_raise_the_loss_of_an_untrained_network(tiny):
    losses = []
    for cns in (0, 20):
        torch.manual_seed(0)
        losses.append(build_method("hierarchical", tiny({"sampling.cns": [cns]})).loss(batch_of([three_regions()] * 4))[0].item())
    assert losses[0] < losses[1]
