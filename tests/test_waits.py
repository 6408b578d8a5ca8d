"""Nothing in a training step waits for the device: not the loss, not its gradients, not the optimizer."""

import dataclasses

import pytest
import torch
from conftest import batch_of, built, three_regions
from waits import NeverWaits

from hgrl.pretraining.methods import REGISTRY, build_method


@pytest.mark.parametrize("name", list(REGISTRY))
def test_a_step_never_waits(name, settings):
    method, batch = built(name, settings), batch_of([three_regions()] * 4)
    optimizer = torch.optim.Adam(method.parameters(), fused=True)
    with NeverWaits(), torch.autocast("cpu", torch.bfloat16):
        loss, _ = method.loss(batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    assert torch.isfinite(loss)


def test_a_step_with_the_same_pixels_in_both_views_never_waits(settings):
    cells = torch.randint(-1, 64, (4, 64), generator=torch.Generator().manual_seed(0))
    batch = dataclasses.replace(batch_of([three_regions()] * 4), same_pixels=cells)
    method = build_method("hierarchical", settings)
    with NeverWaits():
        loss, _ = method.loss(batch)
        loss.backward()
    assert torch.isfinite(loss)


WAITS = {
    "item": lambda values: values.sum().item(),
    "bool": lambda values: bool(values.sum() > 0),
    "boolean index": lambda values: values[values > 0],
    "assignment by mask": lambda values: values.__setitem__(values > 0, values[:1]),
    "nonzero": lambda values: values.nonzero(),
    "masked_select": lambda values: values.masked_select(values > 0),
    "unique": lambda values: values.unique(),
    "copy from the host": lambda values: values + torch.tensor([1.0, 2.0, 3.0]),
    "loop over a tensor": lambda values: [float(value) for value in values],
}


@pytest.mark.parametrize("what", WAITS)
def test_the_check_fails_for_what_waits(what):
    values = torch.arange(3.0)
    with NeverWaits(), pytest.raises(AssertionError, match="waits for the device"):
        WAITS[what](values)
