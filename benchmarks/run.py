"""Every benchmark that `make bench` runs, in one go: benchmarks/results.json, and results.md made from it.

    python benchmarks/run.py                       # about six minutes on 2 cores; 7 GB of memory for the
    peers' sides python benchmarks/run.py --only retrieval step # some of them: the other figures stay as they
    are python benchmarks/run.py --rounds 1            # a third of the repeats

Run it alone: other work on the machine shifts the times, less so the ratios. Not among them:
benchmarks/grouping.py, whose figures stand in results/bsds500/speed.json.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import loader
import peers
import torch
import train_step
from figures import RESULTS, markdown, threads, write

from hgrl.core.files import read_json
from hgrl.core.settings import load_settings

ROUNDS, STEPS = 3, 15  # repeats of a pair; of a training step of `mini` in each round
CPU_BATCH, GPU_STEPS = 4, 7  # of the paper's network. On a CPU 70 images would take 20 GB and minutes a step
CPU = torch.device("cpu")


def step(home: Path, rounds: int) -> dict[str, Any]:
    """The training step of ours, MoCo and InstFeat: `mini`, one thread."""
    with threads(1):
        return train_step.as_figures(
            train_step.measure(load_settings("mini"), CPU, steps=STEPS * rounds), "mini"
        )


def paper(home: Path, rounds: int) -> dict[str, Any]:
    """The paper's network at 224 px: on a GPU at batch 70, in fp32 and bf16; else the paper's method alone,
    on one core and at a small batch.
    """
    settings, figures = load_settings("paper"), {}
    if torch.cuda.is_available():
        for precision in ("fp32", "bf16"):
            found = train_step.measure(
                train_step.with_pretrain(settings, precision=precision),
                torch.device("cuda"),
                steps=GPU_STEPS * rounds,
            )
            figures |= train_step.as_figures(found, "paper", f"train_step.paper_{precision}")
        return figures
    with threads(1):
        found = train_step.measure(
            train_step.with_pretrain(settings, batch=CPU_BATCH), CPU, ("hierarchical",), rounds
        )
        return train_step.as_figures(found, "paper", "train_step.paper_fp32")


def loading(home: Path, rounds: int) -> dict[str, Any]:
    settings = load_settings("paper")
    made = loader.made_photographs(home, settings)
    return loader.as_figures(
        loader.core_rate(*made, settings, rounds), loader.worker_rate(*made, settings), rounds
    )


PARTS = {
    "tracking": peers.tracking,
    "retrieval": peers.retrieval,
    "sampler": peers.sampler,
    "trees": peers.trees,
    "step": step,
    "paper": paper,
    "loader": loading,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    given, started = parser.parse_args(), time.monotonic()
    kept = (set(PARTS) - set(given.only) and RESULTS.exists() and read_json(RESULTS)) or {}
    for name in given.only:
        with tempfile.TemporaryDirectory() as home:
            figures = PARTS[name](Path(home), given.rounds)
        print(f"{time.monotonic() - started:.0f} s: {name}, {len(figures)} figures", flush=True)
        kept = write(kept, figures, started)
    print(markdown(kept))


if __name__ == "__main__":
    main()
