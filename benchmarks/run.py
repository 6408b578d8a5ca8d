"""Every benchmark that `make bench` runs, in one go: benchmarks/results.json, and results.md made from it.

    python benchmarks/run.py              # about five minutes on 2 cores; 7 GB of memory for the peers' sides
    python benchmarks/run.py --rounds 1   # a third of that: to see that all runs

Run it alone: other work on the machine shifts the times, less so the ratios. Not among them: benchmarks/grouping.py, whose figures stand in
results/bsds500/speed.json.
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

from hgrl.config import load_settings
from hgrl.store import read_json

ROUNDS, STEPS = 3, 15  # repeats of a pair; of a training step in each round
CPU_BATCH, CPU_STEPS = 4, 2  # of the paper's network, where there is no GPU: 70 images would take 20 GB and minutes a step


def steps(home: Path, rounds: int) -> dict[str, Any]:
    """The training step: `mini` on the CPU with one thread; the paper's network on a GPU at batch 70, else on the CPU at a small one; the loader."""
    cpu = torch.device("cpu")
    with threads(1):
        figures = train_step.as_figures(train_step.measure(load_settings("mini"), cpu, steps=STEPS * rounds), "mini")
    paper = load_settings("paper")
    if torch.cuda.is_available():
        device = torch.device("cuda")
        found = {precision: train_step.measure(train_step.with_pretrain(paper, precision=precision), device) for precision in ("fp32", "bf16")}
    else:
        with threads(1):
            small = train_step.with_pretrain(paper, batch=CPU_BATCH)
            found = {"fp32": train_step.measure(small, cpu, ("hierarchical",), CPU_STEPS * rounds)}
    for precision, timed in found.items():
        figures |= train_step.as_figures(timed, "paper", f"train_step.paper_{precision}")
    rate = max(timed["methods"]["hierarchical"]["images_per_second"] for timed in found.values())
    made = loader.made_photographs(home, paper)
    return figures | loader.as_figures(loader.core_rate(*made, paper, rounds), loader.worker_rate(*made, paper), rate, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        home, figures = Path(name), {}
        for part in (
            lambda: peers.tracking(home, rounds),
            lambda: peers.retrieval(rounds),
            lambda: peers.sampler(rounds),
            lambda: peers.trees(home, rounds),
            lambda: steps(home, rounds),
        ):
            figures |= part()
            print(f"{time.monotonic() - started:.0f} s: {len(figures)} figures", flush=True)
    write(figures, started)
    print(markdown(read_json(RESULTS)))


if __name__ == "__main__":
    main()
