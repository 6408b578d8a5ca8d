"""How near the decimated spectral signal comes to the exact one on BSDS500's photographs, and what both cost.

    python benchmarks/spectral_correlation.py

Pearson's correlation over all lattice edges (or pixels x orientations), for plain decimation and with the
default refinement. Writes results/bsds500/spectral_correlation.json. About 12 s per image on one core. No
annotation is read.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from photographs import bsds500

from hgrl.core import files as store
from hgrl.core import paths
from hgrl.core.loading import grouping_preset
from hgrl.core.progress import bar
from hgrl.grouping.edges import detect_edges
from hgrl.grouping.hierarchy import collect_arcs, watershed_arcs
from hgrl.grouping.spectral.mix import CONTRAST, arc_map
from hgrl.grouping.spectral.signal import lattice_signal, oriented_signal, solve


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of BSDS500; default: BSDS500 under HGRL_DATA")
    parser.add_argument(
        "--out", type=Path, default=paths.HOME / "results" / "bsds500" / "spectral_correlation.json"
    )
    parser.add_argument("--images", type=int, default=10, help="of the val split, evenly spread; default: 10")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    samples = bsds500("val", options.data)
    chosen = range(0, len(samples), max(1, len(samples) // options.images))[: options.images]
    rows = {samples.images[k].stem: compare(samples.image(k)) for k in bar(chosen, desc="images")}
    means = {key: float(np.mean([row[key] for row in rows.values()])) for key in next(iter(rows.values()))}
    store.write_json(options.out, {"images": rows, "mean": means})
    least = {key: min(row[key] for row in rows.values()) for key in means}
    for name, row in {**rows, "mean": means, "least": least}.items():
        print(name, " ".join(f"{key} {value:.4f}" for key, value in row.items()))


def compare(image: np.ndarray) -> dict[str, float]:
    """Correlations with the exact signal of one image (H, W, 3), and CPU seconds."""
    settings = grouping_preset("best")
    arcs = watershed_arcs(detect_edges(image, settings), settings.arc_strength)
    edge_map = np.minimum(1.0, CONTRAST[settings.spectral_mix] * arc_map(arcs))
    solve(edge_map[:40, :40])  # compiles
    exact, exact_seconds = _timed(lambda: solve(edge_map, exact=True))
    quick, quick_seconds = _timed(lambda: solve(edge_map, refinements=settings.spectral_refinements))
    plain, plain_seconds = _timed(lambda: solve(edge_map, refinements=0))
    signals: dict[str, Any] = {
        "lattice": lambda solved: np.concatenate(
            [part.ravel() for part in lattice_signal(*solved, edge_map.shape)]
        ),
        "arcs": lambda solved: collect_arcs(arcs.labels, *lattice_signal(*solved, edge_map.shape)).strength,
        "oriented": lambda solved: oriented_signal(*solved, edge_map.shape).ravel(),
    }
    out = {}
    for name, signal in signals.items():
        truth = signal(exact)
        out |= {
            name: float(np.corrcoef(truth, signal(quick))[0, 1]),
            f"{name}, plain": float(np.corrcoef(truth, signal(plain))[0, 1]),
        }
    return out | {"seconds": quick_seconds, "seconds, plain": plain_seconds, "seconds, exact": exact_seconds}


def _timed(action: Any) -> tuple[Any, float]:
    started = time.thread_time()
    return action(), time.thread_time() - started


if __name__ == "__main__":
    main()
