"""Equations 2 and 3 in slow loops, and the small tree that they are tried on."""

import math

import torch

SIGMA = 0.8
# ((0 1) (2 3))
FOUR = torch.tensor([[0.0, 0.1, 0.9, 0.9], [0.1, 0.0, 0.9, 0.9], [0.9, 0.9, 0.0, 0.3], [0.9, 0.9, 0.3, 0.0]])


def equation_2(distances, a, present, sigma):
    """P(j in Pos(i)) for i in region a, one region b after the other; regions a crop has lost do not
    exist."""
    others = sum(math.exp(-distances[a][m] / sigma) for m in range(len(distances)) if m != a and present[m])
    own = 1.0 if present[a] else 0.0
    weights = [own if b == a else math.exp(-distances[a][b] / sigma) for b in range(len(distances))]
    return [weight / (others + own) if present[b] else 0.0 for b, weight in enumerate(weights)]


def equation_3(distances, a, present, sigma):
    """P(j in Neg(i)) for i in region a."""
    weights = [
        math.exp(distances[a][b] / sigma) if b != a and present[b] else 0.0 for b in range(len(distances))
    ]
    return [weight / sum(weights) if sum(weights) else 0.0 for weight in weights]
