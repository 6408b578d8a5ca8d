"""InstFeat's loss against a loop over views, written from the authors' description."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from hgrl.pretraining.methods.instfeat import instance_loss


def slow_loss(codes, temperature):
    """-log P(own other view) - sum over the views of other images of log(1 - P); P over all views but the one
    itself."""
    count, total = len(codes), 0.0
    for i in range(count):
        weights = {j: math.exp(float(codes[i] @ codes[j]) / temperature) for j in range(count) if j != i}
        share = {j: weight / sum(weights.values()) for j, weight in weights.items()}
        partner = (i + count // 2) % count
        total -= math.log(share[partner]) + sum(math.log(1 - share[j]) for j in share if j != partner)
    return total / count


def codes_of(images, dim=5, seed=0):
    return normalize(
        torch.randn(2 * images, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64),
        dim=1,
    )


@pytest.mark.parametrize("images, temperature", [(1, 0.1), (2, 0.1), (5, 0.1), (5, 1.0)])
def test_the_loss_equals_the_slow_loop(images, temperature):
    codes = codes_of(images)
    # shares are clamped at 1e-6
    assert instance_loss(codes, temperature).item() == pytest.approx(slow_loss(codes, temperature), rel=1e-5)


def test_equal_codes_give_the_closed_form():
    """Every share is 1 / 7."""
    codes = torch.ones(8, 1, dtype=torch.float64)
    assert instance_loss(codes, 0.1).item() == pytest.approx(math.log(7) - 6 * math.log(6 / 7))


def test_views_swap_and_images_permute_without_a_change():
    codes, order = codes_of(4), torch.tensor([2, 0, 3, 1])
    loss = instance_loss(codes, 0.1)
    torch.testing.assert_close(instance_loss(codes.roll(4, 0), 0.1), loss)
    torch.testing.assert_close(instance_loss(torch.cat([codes[:4][order], codes[4:][order]]), 0.1), loss)


def test_another_image_on_ones_own_place_gives_finite_gradients():
    # images 0 and 1 coincide in the first view: a share of 1
    codes = torch.eye(4)[[0, 0, 1, 2]].requires_grad_()
    loss = instance_loss(codes, 0.01)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(codes.grad).all()


def test_what_a_code_is_compared_with_counts_as_constant():
    """As in the authors' code: the gradient of a view is that of its own row alone."""
    codes = codes_of(3).requires_grad_()
    instance_loss(codes, 0.1).backward()
    row = codes.detach()[0].clone().requires_grad_()
    constant = codes.detach()
    shares = torch.stack([row @ constant[j] / 0.1 for j in range(1, 6)]).softmax(0)
    others = torch.stack([shares[j - 1] for j in (1, 2, 4, 5)])
    (-(shares[2].log() + (1 - others).log().sum()) / 6).backward()
    torch.testing.assert_close(codes.grad[0], row.grad)
