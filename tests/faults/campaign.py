"""A fault campaign: each stage of the smoke pipeline is killed at random moments and must end undisturbed.

    python tests/faults/campaign.py [--kills 20] [--seed 0]

A stage runs in a forked process, so that a start costs nothing and a kill falls into its work. SIGKILL goes
to the whole process group, the stage's worker processes among it. Not run by CI: it takes minutes.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from hgrl.core import paths
from hgrl.core.experiment import Experiment, load_experiment
from hgrl.data.stage import prepare_data
from hgrl.evaluation import convergence, trials
from hgrl.evaluation.stage import evaluate
from hgrl.grouping.stage import group, train_edge_network
from hgrl.pretraining.stage import pretrain
from hgrl.reporting.claims import write_claims
from hgrl.reporting.tables import write_tables
from hgrl.sampling.stage import compare_height_units

REPOSITORY = Path(__file__).resolve().parents[2]
PROFILE = "smoke"
TRAINED = ("ours-cns5", "ours-cns5-20", "moco", "segsort")
SCORED = ",".join(["random", *TRAINED[:1]])
Stage = Callable[[Experiment], object]
STAGES: dict[str, Stage] = {
    "data": prepare_data,
    "hed": train_edge_network,
    "grouping": group,
    "grouping-hed": lambda experiment: group(experiment, "hed"),
    "sampling": lambda experiment: compare_height_units(experiment, 6),
    **{
        f"pretraining@{run}": lambda experiment, run=run: pretrain(experiment, experiment.run(run))
        for run in TRAINED
    },
    "probe": lambda experiment: evaluate("probe", experiment, SCORED),
    "retrieval": lambda experiment: evaluate("retrieval", experiment, f"lab,{SCORED}"),
    "tracking": lambda experiment: evaluate("tracking", experiment, f"identity,{SCORED}"),
    "convergence": convergence.trace,
    "claims": write_claims,
    "sweep": trials.sweep,
    "tables": write_tables,
}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--kills", type=int, default=20, help="per stage")
    options.add_argument("--seed", type=int, default=0)
    options = options.parse_args()
    torch.set_num_threads(1)
    moments, differing = random.Random(options.seed), []
    with tempfile.TemporaryDirectory() as folder:
        undisturbed, disturbed = (_new_home(Path(folder) / name) for name in ("undisturbed", "disturbed"))
        for name in STAGES:
            lasts = _in_process(undisturbed, name, None)
            ends = _kill(
                disturbed, name, options.kills, lasts, moments, lambda: _differing(undisturbed, disturbed)
            )
            wrong = sorted({path for found in ends for path in found})
            print(
                f"{name}: {lasts:.1f} s, {options.kills} kills, {len(ends)} ends, {len(wrong)} files differ",
                flush=True,
            )
            differing += wrong
    for path in differing:
        print(f"differs: {path}")
    print("every end equals the undisturbed run's" if not differing else f"{len(differing)} files differ")
    return 1 if differing else 0


def _kill(
    home: Path, name: str, kills: int, lasts: float, moments: random.Random, compare: Callable[[], list[Path]]
) -> list[list[Path]]:
    """Kill a stage `kills` times, each time at another moment of what is left of it.

    A stage that has come to its end is compared with the undisturbed one and begun anew; returns what
    differed
    at each end."""
    before, ends, done = home.with_name("before"), [], 0
    shutil.copytree(home, before)
    while True:
        if _in_process(home, name, moments.uniform(0, lasts) if done < kills else None) < 0:
            done += 1
            continue
        ends.append(compare())
        if done == kills:
            shutil.rmtree(before)
            return ends
        shutil.rmtree(home)
        shutil.copytree(before, home)


def _new_home(home: Path) -> Path:
    """A folder with the repository's runs and profiles, and nothing made yet."""
    home.mkdir()
    shutil.copytree(REPOSITORY / "profiles", home / "profiles")
    shutil.copy(REPOSITORY / "params.yaml", home)
    return home


def _in_process(home: Path, name: str, kill_after: float | None) -> float:
    """Run a stage in a process of its own: its seconds, or -1 if the kill came before its end.

    Raises RuntimeError when a stage that nobody killed failed.
    """
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _run(home, name)
    os.setpgid(child, child) if os.getpgid(child) != child else None
    while kill_after is None or time.monotonic() - started < kill_after:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if status:
                raise RuntimeError(
                    f"stage {name} failed by itself, exit status {os.waitstatus_to_exitcode(status)}"
                )
            return time.monotonic() - started
        time.sleep(0.005)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -1.0


def _run(home: Path, name: str) -> None:
    """In the child: a group of its own, the home's folders, the stage; never returns."""
    try:
        os.setpgid(0, 0)
        paths.HOME, paths.PARAMS = home, home / "params.yaml"
        with open(home / "log", "a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            STAGES[name](load_experiment(PROFILE))
        os._exit(0)
    except BaseException as error:
        print(f"{name}: {type(error).__name__}: {error}", file=sys.__stderr__, flush=True)
        os._exit(1)


def _differing(one: Path, other: Path) -> list[Path]:
    """Results, trees and scores that are not equal to the byte, or stand in one home only."""
    found = {
        home: {path.relative_to(home): path for path in home.rglob("*") if _counts(path, home)}
        for home in (one, other)
    }
    names = sorted(found[one].keys() | found[other].keys())
    return [name for name in names if _bytes(found[one].get(name)) != _bytes(found[other].get(name))]


def _counts(path: Path, home: Path) -> bool:
    """Not `.origin.json` (times, machines), nor checkpoints: losses and scores follow from them."""
    top = path.relative_to(home).parts[0]
    return (
        path.is_file()
        and top in ("results", "artifacts")
        and not path.name.endswith(".origin.json")
        and path.suffix != ".pt"
    )


def _bytes(path: Path | None) -> bytes | None:
    return path.read_bytes() if path else None


if __name__ == "__main__":
    sys.exit(main())
