"""The tracking ablation's own score and bound; the trackers themselves are tested in test_tracking."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from test_tracking import by_colour, moving_square

from hgrl.core.errors import InputError
from hgrl.core.experiment import load_experiment
from hgrl.core.settings import TrackingSettings
from hgrl.evaluation import tracking

FILE = Path(__file__).resolve().parents[1] / "benchmarks/tracking_ablation.py"


@pytest.fixture(scope="module")
def ablation():
    spec = importlib.util.spec_from_file_location("tracking_ablation", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


def test_its_j_is_the_evaluations(ablation):
    video, settings = moving_square(), TrackingSettings(short_side=48)
    tracker = by_colour(settings)
    expected = tracking.evaluate_tracking([video], tracker, settings)["j_mean"]
    assert ablation.score([ablation.Head(video, 99)], tracker, settings) == pytest.approx(100 * expected)


def test_the_bound_is_exact_where_a_cell_is_a_pixel(ablation):
    video = ablation.Head(moving_square(), 3)
    assert len(video) == 3
    fine = ablation.through_cells(video, TrackingSettings(short_side=4 * 96))
    assert all(np.array_equal(found, video.mask(t)) for t, found in enumerate(fine))
    coarse = [
        ablation.score([video], ablation.through_cells, TrackingSettings(short_side=side))
        for side in (24, 48, 96)
    ]
    assert coarse == sorted(coarse) and coarse[0] < 100


def test_every_row_is_a_valid_setting(ablation):
    for column, row in ablation.ROWS.values():
        assert column in tracking.COLUMNS and ablation.changed(TrackingSettings(), row)
    with pytest.raises(InputError, match="no row named 'none'"):
        ablation.ablate(load_experiment("mini"), "ours-cns5", 1, 1, ["none"])
