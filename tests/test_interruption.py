"""Training that is stopped, killed or finds its newest checkpoint damaged goes on where it was, and says
so."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import write_profile
from jobs import train
from ranks import HERE
from test_pretrain import assert_same

from hgrl.core.checkpoint import load_checkpoint
from hgrl.core.errors import InputError
from hgrl.core.experiment import load_experiment
from hgrl.core.interruption import Stopped, StopSignal
from hgrl.pretraining import loop
from hgrl.pretraining.stage import pretrain

FOLDER = "artifacts/small/checkpoints/ours"


def kill_at(step):
    """A tick that sends this process SIGTERM once that step is done."""
    done = []

    def tick(count):
        done.append(count)
        if sum(done) == step and count:
            os.kill(os.getpid(), signal.SIGTERM)

    return tick


@pytest.mark.parametrize("step", [1, 4])
def test_sigterm_saves_after_the_step_and_the_resumed_run_equals_the_whole_bit_for_bit(
    dataset, settings, tmp_path, step
):
    train(dataset, settings, tmp_path / "whole.pt")
    former = signal.getsignal(signal.SIGTERM)
    with pytest.raises(
        Stopped,
        match=rf"parts\.pt: stopped by a signal at step {step} of 6: training is not complete; run the same",
    ):
        train(dataset, settings, tmp_path / "parts.pt", tick=kill_at(step))
    assert signal.getsignal(signal.SIGTERM) == former
    assert load_checkpoint(tmp_path / "parts.pt").step == step
    train(dataset, settings, tmp_path / "parts.pt")
    assert_same(load_checkpoint(tmp_path / "whole.pt"), load_checkpoint(tmp_path / "parts.pt"))


def test_a_signal_in_the_last_step_is_left_to_whoever_listened_before(dataset, settings, tmp_path):
    heard = []
    former = signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
    try:
        assert train(dataset, settings, tmp_path / "seed0.pt", tick=kill_at(6)).complete
        assert heard == [1]
        with StopSignal() as obeyed:
            os.kill(os.getpid(), signal.SIGTERM)
            obeyed.obeyed = True
        assert heard == [1] and obeyed.asked
    finally:
        signal.signal(signal.SIGTERM, former)


def test_a_damaged_newest_checkpoint_is_replaced_by_the_last_good_one_and_the_reader_is_told(
    dataset, tiny, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    settings = tiny({"pretrain.checkpoint_minutes": 0.0, "pretrain.keep_last": 3})
    train(dataset, settings, tmp_path / "whole.pt")
    path = tmp_path / "seed0.pt"
    train(dataset, settings, path, stop_after=4)
    assert sorted(file.name for file in tmp_path.glob("seed0*")) == [
        "seed0.pt",
        "seed0.step000002.pt",
        "seed0.step000003.pt",
    ]
    path.write_bytes(path.read_bytes()[:5000])
    (tmp_path / "seed0.step000003.pt").write_bytes(b"")
    train(dataset, settings, path)
    said = capsys.readouterr().out.splitlines()
    assert (
        len(said) == 1
        and "seed0.pt: damaged" in said[0]
        and said[0].endswith("training resumes from seed0.step000002.pt, step 2 of 6")
    )
    assert_same(load_checkpoint(tmp_path / "whole.pt"), load_checkpoint(path))
    assert [file.name for file in tmp_path.glob("seed0*")] == ["seed0.pt"]


def test_a_damaged_checkpoint_without_a_good_one_beside_it_is_refused(dataset, settings, tiny, tmp_path):
    path = tmp_path / "seed0.pt"
    # of other settings
    train(dataset, tiny({"pretrain.lr": 0.1}), tmp_path / "seed0.step000002.pt", stop_after=2)
    path.write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"seed0\.pt: damaged.*delete it and train again"):
        train(dataset, settings, path)


# Real processes: the command line, its own process group


def command(*arguments, ranks=0):
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks else []
    )
    return [sys.executable, *launcher, "-m", "hgrl", "train", "small", "ours", *arguments]


def environment(home):
    return os.environ | {
        "HGRL_HOME": str(home),
        "PYTHONPATH": str(HERE.parent.parent),
        "OMP_NUM_THREADS": "1",
    }


def start(home, *arguments, ranks=0):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    return subprocess.Popen(command(*arguments, ranks=ranks), env=environment(home), **pipes)


def wait_for(run, *files):
    while not all(file.exists() for file in files):
        assert run.poll() is None, run.communicate()[1]
        time.sleep(0.005)


def finish(home, *arguments, ranks=0):
    done = subprocess.run(
        command(*arguments, ranks=ranks), env=environment(home), capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stderr
    return done


def train_ours(seed=None):
    small = load_experiment("small")
    return pretrain(small, small.run("ours"), seed)


@pytest.fixture
def untrained(pipeline, tmp_path, monkeypatch):
    """Two homes where `ours` is to be trained, 60 steps a seed: one to interrupt, and one where it has been
    trained without a break."""
    monkeypatch.setattr(loop, "LOG_EVERY", 2)
    write_profile(
        pipeline,
        {"jobs": 2, "pretrain.epochs": 30, "pretrain.snapshots": [0.1], "pretrain.checkpoint_minutes": 0.001},
    )
    shutil.rmtree(pipeline / FOLDER)
    other = shutil.copytree(pipeline, tmp_path / "other")
    train_ours()
    return pipeline, other


def same_files(whole, parts):
    names = sorted(file.name for file in (whole / FOLDER).iterdir())
    assert names == sorted(file.name for file in (parts / FOLDER).iterdir())
    for name in names:
        assert_same(load_checkpoint(whole / FOLDER / name), load_checkpoint(parts / FOLDER / name))
    return names


def test_a_scheduler_stops_one_process_or_its_workers_and_the_same_command_goes_on(untrained):
    """First a seed alone, in the process that gets the signal; then both, in worker processes to which it is
    handed on."""
    whole, parts = untrained
    for arguments, seeds in ((("--seed", "1"), (1,)), ((), (0,))):
        run = start(parts, *arguments)
        wait_for(run, *(parts / FOLDER / f"seed{seed}.at010.pt" for seed in seeds))
        run.terminate()
        _, told = run.communicate(timeout=60)
        assert run.returncode == 0, told
        lines = [line for line in told.splitlines() if line.startswith("hgrl:")]
        assert len(lines) == 1 and "training is not complete; run the same command to resume" in lines[0]
        assert "Traceback" not in told
        for seed in seeds:
            assert 6 <= load_checkpoint(parts / FOLDER / f"seed{seed}.pt").step < 60
    done = finish(parts)
    assert "ours, seed 1: 60 steps" in done.stdout
    assert {"seed0.pt", "seed1.pt", "seed0.at010.pt", "seed1.at010.pt"} <= set(same_files(whole, parts))
    assert (parts / "results/small/pretraining/ours.csv").read_bytes() == (
        whole / "results/small/pretraining/ours.csv"
    ).read_bytes()


def rank_of(process):
    """The RANK in the environment of a process (Linux), or None."""
    try:
        found = [
            entry
            for entry in Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
            if entry.startswith(b"RANK=")
        ]
    except OSError:
        return None
    return int(found[0].removeprefix(b"RANK=")) if found else None


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the processes in /proc")
def test_torchrun_trains_and_a_killed_rank_costs_no_more_than_the_steps_since_the_last_checkpoint(pipeline):
    write_profile(
        pipeline,
        {
            "pretrain.epochs": 12,
            "pretrain.batch": 2,
            "pretrain.lr": 1e-5,
            "pretrain.checkpoint_minutes": 0.0001,
        },
    )
    folder = pipeline / FOLDER
    shutil.rmtree(folder)
    (one,) = train_ours(0)
    shutil.rmtree(folder)
    run = start(pipeline, "--seed", "0", ranks=2)
    wait_for(run, folder / "seed0.pt")
    children = [
        int(pid)
        for task in Path(f"/proc/{run.pid}/task").iterdir()
        for pid in (task / "children").read_text().split()
    ]
    (second,) = [child for child in children if rank_of(child) == 1]
    os.kill(second, signal.SIGKILL)
    run.communicate(timeout=110)
    assert run.returncode != 0
    assert 0 < load_checkpoint(folder / "seed0.pt").step < 36
    done = finish(pipeline, "--seed", "0", ranks=2)
    assert done.stdout.count("ours, seed 0: 36 steps") == 1
    two = load_checkpoint(folder / "seed0.pt")
    assert one.identity == two.identity and one.method.keys() == two.method.keys()
    torch.testing.assert_close(one.losses, two.losses, atol=1e-4, rtol=1e-4)
    assert {file.name for file in folder.iterdir()} == {"seed0.pt"}
