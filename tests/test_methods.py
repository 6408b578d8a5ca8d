"""The registry, and the paper's method as the loop sees it."""

import dataclasses

import pytest
import torch
from conftest import batch_of, built, one_region, three_regions
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from hgrl.core.cache import imported_modules
from hgrl.core.errors import InputError
from hgrl.core.settings import SamplingSettings
from hgrl.pretraining.methods import REGISTRY, build_method
from hgrl.pretraining.methods.base import Method
from hgrl.pretraining.methods.hierarchical import cns_now
from hgrl.pretraining.network import LAYERS


@pytest.mark.parametrize("name", list(REGISTRY))
def test_every_method_gives_a_finite_scalar_with_gradients(name, settings):
    torch.manual_seed(0)
    method = built(name, settings)
    loss, diagnostics = method.loss(batch_of([three_regions()] * 4))
    loss.backward()
    assert loss.shape == () and torch.isfinite(loss)
    assert not any(value.requires_grad for value in diagnostics.values())
    trained = method.network.backbone if method.network else method
    gradients = [p.grad for p in trained.parameters()]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients) and any(
        g.abs().sum() > 0 for g in gradients
    )


@pytest.mark.parametrize("name", list(REGISTRY))
def test_gradients_reach_the_layers_that_a_method_says_it_trains_and_no_others(name, settings):
    method = built(name, settings)
    method.loss(batch_of([three_regions()] * 4))[0].backward()
    reached = {
        layer
        for layer in (LAYERS if method.network else ())
        if any(p.grad is not None and p.grad.any() for p in getattr(method.network, layer).parameters())
    }
    assert reached == set(method.layers)
    assert all(p.grad is None for key, p in method.named_parameters() if key.startswith("key_encoder."))


@pytest.mark.parametrize("name", list(REGISTRY))
def test_losses_are_finite_under_bf16_autocast(name, settings):
    torch.manual_seed(0)
    method = built(name, settings)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = method.loss(batch_of([three_regions()] * 4))
    loss.backward()
    assert torch.isfinite(loss) and loss.dtype == torch.float32
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", list(REGISTRY))
def test_a_loss_never_waits_for_the_device(name, settings):
    """Fake tensors have shapes and no values: whatever needs a value, or a shape that values decide,
    raises."""
    method = built(name, settings)
    batch = batch_of([three_regions()] * 4)
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        for module in method.modules():
            for kind in (module._parameters, module._buffers):
                for key, value in kind.items():
                    kind[key] = value if value is None else fake.from_tensor(value)
        keys = "images", "labels", "distances", "classes", "indices", "flow"
        tensors = {key: fake.from_tensor(getattr(batch, key)) for key in keys}
        loss, _ = method.loss(dataclasses.replace(batch, **tensors))
        with pytest.raises(DataDependentOutputException):
            loss.item()


@pytest.mark.parametrize("name", list(REGISTRY))
def test_training_on_one_batch_lowers_its_loss(name, settings):
    """Queues are set back in every step, or they would fill with the batch's own keys; key encoders move
    on."""
    torch.manual_seed(0)
    method, losses = built(name, settings), []
    queues = {key: value.clone() for key, value in method.state_dict().items() if "queue" in key}
    optimizer = torch.optim.Adam(method.parameters(), lr=3e-3)
    for _ in range(24):
        loss, _ = method.loss(batch_of([three_regions()] * 4))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        method.load_state_dict(queues, strict=False)
    assert sum(losses[-4:]) < sum(losses[:4]) * 0.97


@pytest.mark.parametrize("name", list(REGISTRY))
def test_a_loss_draws_from_the_batchs_generator_alone(name, settings):
    torch.manual_seed(0)
    method = built(name, settings)
    start, found = {key: value.clone() for key, value in method.state_dict().items()}, []
    for seed in (1, 2):
        method.load_state_dict(start)
        torch.manual_seed(seed)
        found.append(method.loss(batch_of([three_regions()] * 4))[0])
    assert torch.equal(*found)


def test_sections_name_settings_and_a_methods_code_follows_its_imports(settings):
    found = {}
    for name, method in REGISTRY.items():
        assert set(method.sections) <= set(type(settings).model_fields)
        assert set(method.layers) <= set(LAYERS)
        files = imported_modules(method.__module__)
        assert all(path.exists() for path in files.values())
        found[name] = {
            file.rpartition(".")[2] for file in files if file.startswith("hgrl.pretraining.methods")
        }
    assert found["hierarchical"] == {"base", "hierarchical"}
    assert found["instfeat"] == {"base", "contrast", "instfeat"}
    assert found["hierarchical-image"] == {"base", "contrast", "hierarchical", "hierarchical_image", "moco"}


@pytest.mark.parametrize(
    "trees", [[one_region()] * 2, [one_region()], [three_regions()], [one_region(), three_regions()]]
)
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


@pytest.mark.parametrize(
    "progress, expected", [(0.0, (5,)), (0.49, (5,)), (0.5, (20,)), (0.999, (20,)), (1.0, (20,))]
)
def test_cns_5_20_as_a_schedule_is_first_5_then_20(progress, expected):
    assert cns_now(SamplingSettings(cns=(5, 20)), progress) == expected


@pytest.mark.parametrize("progress", [0.0, 0.9])
def test_cns_5_20_as_terms_is_both_all_along(progress):
    assert cns_now(SamplingSettings(cns=(5, 20), cns_reading="terms"), progress) == (5, 20)
    assert (
        cns_now(SamplingSettings(cns=5), progress)
        == cns_now(SamplingSettings(cns=5, cns_reading="terms"), progress)
        == (5,)
    )


def test_two_equal_terms_average_to_about_one_of_them(tiny):
    losses = []
    for changes in ({"sampling.cns": [5]}, {"sampling.cns": [5, 5], "sampling.cns_reading": "terms"}):
        torch.manual_seed(0)
        method = build_method("hierarchical", tiny(changes))
        losses.append(
            sum(method.loss(batch_of([three_regions()] * 4, seed))[0].item() for seed in range(10)) / 10
        )
    assert losses[0] == pytest.approx(losses[1], rel=0.1)


def test_more_negatives_raise_the_loss_of_an_untrained_network(tiny):
    losses = []
    for cns in (0, 20):
        torch.manual_seed(0)
        losses.append(
            build_method("hierarchical", tiny({"sampling.cns": [cns]}))
            .loss(batch_of([three_regions()] * 4))[0]
            .item()
        )
    assert losses[0] < losses[1]
