"""Colour and position as features."""

import numpy as np
import pytest
import torch

from hgrl.evaluation.features import lab_angles, lab_colour, position


def test_lab_of_white_and_its_grid():
    images = np.full((2, 10, 13, 3), 255, np.uint8)
    features = lab_colour(images, with_position=True)
    assert features.shape == (2, 5, 3, 4) and features.dtype == torch.float32
    assert features[0, :3, 0, 0].tolist() == pytest.approx([1, 0, 0], abs=1e-3)
    assert torch.allclose(position(images)[0, :, 0, 0], torch.tensor([-0.75, -2 / 3]))


def test_lab_angles_are_unit_vectors_ordered_by_colour_difference():
    greys = np.array([10, 40, 120, 250], np.uint8)
    images = np.broadcast_to(greys[:, None, None, None], (4, 4, 4, 3))
    vectors = lab_angles(images)[:, :, 0, 0]
    assert torch.allclose(vectors.norm(dim=1), torch.ones(4), atol=1e-5)
    cosines = vectors[0] @ vectors.T
    assert (cosines[1:] < cosines[:-1]).all()
