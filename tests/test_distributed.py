"""Two processes train what one does: the same losses, gradients and checkpoints, to rounding."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import write_profile
from ranks import HERE, in_ranks, step

from hgrl import __main__ as cli
from hgrl import distributed, paths
from hgrl.checkpoint import load_checkpoint
from hgrl.distributed import Share
from hgrl.errors import InputError
from hgrl.methods import REGISTRY
from hgrl.synced_norm import SyncedBatchNorm2d, sync_batch_norm
from hgrl.views import EpochOrder

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
RUNNING = ("key_encoder.copies", ("running_mean", "running_var", "num_batches_tracked"))  # of each rank's own groups; nothing reads them


def comparable(state):
    return {key: value for key, value in state.items() if not (key.startswith(RUNNING[0]) and key.endswith(RUNNING[1]))}


def assert_close(one, other, **tolerance):
    assert one.keys() == other.keys()
    for key in one:
        torch.testing.assert_close(one[key], other[key], **(tolerance or CLOSE), msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("method", list(REGISTRY))
def test_two_processes_have_the_loss_and_the_gradients_of_one(method, tiny, dataset, tmp_path):
    settings = tiny({"sampling.cns": [5]})
    one = step(method, settings, dataset, tmp_path / "one.pt", 1)
    two = in_ranks(tmp_path / "ranks", "step", method, settings, dataset, tmp_path / "two.pt", 1)
    for found in two:
        assert found["losses"] == pytest.approx(one["losses"], abs=1e-5)
        assert_close(found["gradients"], one["gradients"])
    assert_close(comparable(two[0]["state"]), comparable(two[1]["state"]), atol=0, rtol=0)
    assert load_checkpoint(tmp_path / "two.pt").method.keys() == load_checkpoint(tmp_path / "one.pt").method.keys()
