"""Curves: every snapshot probed by one protocol, kept while unchanged, and placed at its epoch."""

import json
import shutil

import numpy as np
import pytest
import yaml
from conftest import SMALL_PARAMS, write_profile

from hgrl import __main__ as cli
from hgrl.core import paths
from hgrl.core.errors import InputError
from hgrl.core.experiment import load_experiment
from hgrl.core.results import read_results
from hgrl.evaluation import convergence, probe
from hgrl.evaluation.convergence import point_file
from hgrl.pretraining.checkpoints import snapshot_file

SETTINGS = {
    "convergence.shares": [0.5, 1.0],
    "convergence.head": "linear-backbone",
    "convergence.iterations": 2,
}


def small():
    return load_experiment("small")


def trace():
    """With the profile `small` as its file is now."""
    return convergence.trace(small())


@pytest.fixture
def snapshots(pipeline):
    """The run `ours` with a snapshot of each seed halfway: for these tests the other seed's checkpoint."""
    write_profile(pipeline, SETTINGS)
    paths.PARAMS.write_text(yaml.safe_dump({**SMALL_PARAMS, "extras": {"convergence": ["ours", "moco"]}}))
    folder = small().files.checkpoints("ours")
    for seed in (0, 1):
        shutil.copy(folder / f"seed{1 - seed}.pt", snapshot_file(folder / f"seed{seed}.pt", 0.5))
    return pipeline


@pytest.fixture
def scored(monkeypatch):
    """The (seed, share) probed from here on."""
    done, real = [], probe.score_checkpoint

    def remembering(root, settings, path, seed, complete):
        done.append((seed, 1.0 if complete else 0.5))
        return real(root, settings, path, seed, complete)

    monkeypatch.setattr(probe, "score_checkpoint", remembering)
    return done


def test_a_curve_has_a_point_for_each_share_and_seed_at_its_epoch(snapshots, scored, capsys):
    results = trace()
    assert "run 'moco' is left out: it was not trained in profile 'small'" in capsys.readouterr().out
    assert scored == [(0, 0.5), (0, 1.0), (1, 0.5), (1, 1.0)] and results.keys() == {"ours"}
    curve = results["ours"]
    assert curve["epochs"] == [1.5, 3.0] and (curve["head"], curve["iterations"]) == ("linear-backbone", 2)
    assert curve["seeds"].keys() == {0, 1}
    scores = np.array(list(curve["seeds"].values()))
    np.testing.assert_allclose(curve["miou_mean"], scores.mean(0))
    np.testing.assert_allclose(curve["miou_std"], scores.std(0, ddof=1))
    assert read_results(small(), "convergence")["ours"]["miou_mean"] == curve["miou_mean"]
    assert (small().files.results / "convergence/ours.origin.json").exists()


def test_points_are_of_their_own_weights_probed_with_the_runs_own_seed(snapshots):
    """With both seeds' checkpoints equal at all shares, each seed's curve is flat; the snapshot is read, not
    the end.
    """
    folder = small().files.checkpoints("ours")
    before = trace()["ours"]["seeds"]
    for seed in (0, 1):
        shutil.copy(folder / f"seed{seed}.pt", snapshot_file(folder / f"seed{seed}.pt", 0.5))
    after = trace()["ours"]["seeds"]
    for seed in (0, 1):
        assert after[seed][0] == after[seed][1] == before[seed][1]
        assert before[seed][0] != before[seed][1]


def test_unchanged_points_are_read_and_changed_ones_made_anew(snapshots, scored):
    first = trace()
    path = small().files.results / "convergence/ours.json"
    content = path.read_bytes()
    scored.clear()
    assert trace() == first and scored == [] and path.read_bytes() == content
    folder = small().files.checkpoints("ours")
    shutil.copy(folder / "seed1.pt", snapshot_file(folder / "seed1.pt", 0.5))
    trace()
    assert scored == [(1, 0.5)]
    scored.clear()
    write_profile(snapshots, {**SETTINGS, "convergence.iterations": 3})
    trace()
    assert len(scored) == 4
    scored.clear()
    write_profile(snapshots, {**SETTINGS, "convergence.iterations": 3, "convergence.shares": [1.0]})
    assert trace()["ours"]["epochs"] == [3.0] and scored == []


def test_a_missing_snapshot_is_one_line_with_the_remedy(snapshots, scored):
    snapshot_file(small().files.checkpoints("ours") / "seed1.pt", 0.5).unlink()
    with pytest.raises(InputError) as caught:
        trace()
    reason, remedy = (
        "run 'ours' has no snapshot after 50% of its epochs",
        "list 0.5 under 'pretrain.snapshots'",
    )
    assert f"seed1.at050.pt: {reason}; {remedy}" in str(caught.value)
    assert scored == []


def test_the_end_of_a_run_is_its_checkpoint(snapshots):
    assert point_file(small(), small().run("ours"), 0, 1.0) == small().files.checkpoints("ours") / "seed0.pt"


def test_a_head_on_a_layer_that_the_run_did_not_train_is_one_line(snapshots):
    folder = small().files.checkpoints("moco")
    shutil.copytree(small().files.checkpoints("ours"), folder)
    write_profile(snapshots, {**SETTINGS, "convergence.head": "linear-embedding"})
    with pytest.raises(InputError, match="none reads a layer that method 'moco' trains"):
        trace()


def test_the_command_prints_the_curve(snapshots, capsys):
    assert cli.main(["convergence", "small"]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("ours: mIoU ") and "after 1.5" in line and line.endswith("after 3 epochs")
    assert json.loads((small().files.results / "convergence/ours.json").read_text())["stage"] == "convergence"
