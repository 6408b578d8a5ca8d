"""Every benchmark that `make bench` runs, in one go: benchmarks/results.json, and results.md made from it.

    python benchmarks/run.py                       # six minutes on 2 cores; the peers need 7 GB of memory
    python benchmarks/run.py --only retrieval step # some of them: the other figures stay as they are
    python benchmarks/run.py --rounds 1            # a third of the repeats

Run it alone: other work on the machine shifts the times, less so the ratios. benchmarks/grouping.py is not
among them; its figures stand in results/bsds500/speed.json.
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
from figures import RESULTS, markdown, threads, write
from step_figures import as_figures
from train_step import measure, with_pretrain

from hgrl.core.experiment import load_experiment
from hgrl.core.files import read_json

ROUNDS, STEPS = 3, 15  # repeats of a pair; of a training step of `mini` in each round
CPU_BATCH, GPU_STEPS = 4, 7  # of the paper's network; on a CPU, a step of 70 images takes minutes and 20 GB
CPU = torch.device("cpu")


def step(home: Path, rounds: int) -> dict[str, Any]:
    """The training step of ours, MoCo and InstFeat: `mini`, one thread."""
    with threads(1):
        return as_figures(measure(load_experiment("mini").settings, CPU, steps=STEPS * rounds), "mini")


def paper(home: Path, rounds: int) -> dict[str, Any]:
    """The paper's network at 224 px: on a GPU at batch 70, in fp32 and bf16; else the paper's method alone,
    on one core and at a small batch."""
    settings, figures = load_experiment("paper").settings, {}
    if torch.cuda.is_available():
        for precision in ("fp32", "bf16"):
            own = with_pretrain(settings, precision=precision)
            found = measure(own, torch.device("cuda"), steps=GPU_STEPS * rounds)
            figures |= as_figures(found, "paper", f"train_step.paper_{precision}")
        return figures
    with threads(1):
        found = measure(with_pretrain(settings, batch=CPU_BATCH), CPU, ("hierarchical",), rounds)
        return as_figures(found, "paper", "train_step.paper_fp32")


def loading(home: Path, rounds: int) -> dict[str, Any]:
    settings = load_experiment("paper").settings
    made = loader.made_photographs(home, settings)
    one_core, workers = loader.core_rate(*made, settings, rounds), loader.worker_rate(*made, settings)
    return loader.as_figures(one_core, workers, rounds)


PARTS = {
    "tracking": peers.tracking,
    "sequence": peers.sequence,
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
    content = read_json(RESULTS) if set(PARTS) - set(given.only) and RESULTS.exists() else {}
    for name in given.only:
        with tempfile.TemporaryDirectory() as home:
            figures = PARTS[name](Path(home), given.rounds)
        print(f"{time.monotonic() - started:.0f} s: {name}, {len(figures)} figures", flush=True)
        content = write(content, figures, started)
    print(markdown(content))


if __name__ == "__main__":
    main()
