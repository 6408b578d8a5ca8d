"""Equations 2 and 3: against slow loops, and in closed form."""

import math

import pytest
import torch
from equations import FOUR, SIGMA, equation_2, equation_3

from hgrl.sampling.pixels import negative_probability, positive_probability

PRESENCES = [(1, 1, 1, 1), (1, 0, 1, 1), (0, 1, 1, 0), (1, 0, 0, 0)]


@pytest.mark.parametrize("present", PRESENCES)
@pytest.mark.parametrize("sigma", [0.08, 0.8, 8.0])
@pytest.mark.parametrize(
    "fast, slow", [(positive_probability, equation_2), (negative_probability, equation_3)]
)
def test_the_equations_agree_with_slow_loops(fast, slow, sigma, present):
    expected = torch.tensor([slow(FOUR.tolist(), a, present, sigma) for a in range(4)])
    torch.testing.assert_close(
        fast(FOUR, sigma, torch.tensor(present).bool()), expected, atol=1e-6, rtol=1e-5
    )


def test_two_regions_in_closed_form():
    distances, present = torch.tensor([[0.0, 0.4], [0.4, 0.0]]), torch.ones(2, dtype=torch.bool)
    own = 1 / (1 + math.exp(-0.4 / SIGMA))
    torch.testing.assert_close(
        positive_probability(distances, SIGMA, present), torch.tensor([[own, 1 - own], [1 - own, own]])
    )
    torch.testing.assert_close(negative_probability(distances, SIGMA, present), 1 - torch.eye(2))


def test_p_self_is_one_over_one_plus_the_sum_over_the_others():
    positive = positive_probability(FOUR, SIGMA, torch.ones(4, dtype=torch.bool))
    for a in range(4):
        others = sum(math.exp(-FOUR[a, m].item() / SIGMA) for m in range(4) if m != a)
        assert positive[a, a].item() == pytest.approx(1 / (1 + others))


def test_the_diagonal_is_cast_to_one_and_not_taken_from_the_tree():
    present = torch.ones(4, dtype=torch.bool)
    filled = FOUR + 5 * torch.eye(4)
    torch.testing.assert_close(
        positive_probability(filled, SIGMA, present), positive_probability(FOUR, SIGMA, present)
    )
    torch.testing.assert_close(
        negative_probability(filled, SIGMA, present), negative_probability(FOUR, SIGMA, present)
    )


def test_equal_distances_make_the_others_equally_likely():
    distances = 0.5 * (1 - torch.eye(5))
    negative = negative_probability(distances, SIGMA, torch.ones(5, dtype=torch.bool))
    torch.testing.assert_close(negative, (1 - torch.eye(5)) / 4)


def test_near_regions_are_likelier_positives_and_far_ones_likelier_negatives():
    present = torch.ones(4, dtype=torch.bool)
    positive, negative = (
        positive_probability(FOUR, SIGMA, present),
        negative_probability(FOUR, SIGMA, present),
    )
    assert positive[0, 0] > positive[0, 1] > positive[0, 2] == positive[0, 3]
    assert negative[0, 2] == negative[0, 3] > negative[0, 1] > negative[0, 0] == 0


@pytest.mark.parametrize("present", PRESENCES)
def test_rows_sum_to_one_over_the_visible_regions(present):
    visible = torch.tensor(present).bool()
    positive, negative = (
        positive_probability(FOUR, SIGMA, visible),
        negative_probability(FOUR, SIGMA, visible),
    )
    torch.testing.assert_close(positive.sum(-1), torch.ones(4))
    others = torch.tensor([sum(present) - present[a] for a in range(4)])
    torch.testing.assert_close(negative.sum(-1), (others > 0).float())
    assert (positive[:, ~visible] == 0).all() and (negative[:, ~visible] == 0).all()


@pytest.mark.parametrize("scale", [1e3, 1e6, 1e30])
def test_huge_distances_do_not_overflow(scale):
    present = torch.ones(4, dtype=torch.bool)
    torch.testing.assert_close(positive_probability(FOUR * scale, SIGMA, present), torch.eye(4))
    negative = negative_probability(FOUR * scale, SIGMA, present)
    torch.testing.assert_close(negative[0], torch.tensor([0, 0, 0.5, 0.5]))
