"""What all benchmarks share: one figure, the file of all of them, the table made from it, and threads."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hgrl.core import paths
from hgrl.core.files import write_json, write_text
from hgrl.core.results import machine

RESULTS = paths.HOME / "benchmarks" / "results.json"
KEYS = ("value", "unit", "peer", "n", "machine")
NAMES = (  # that must be there; others may stand beside them
    "train_step.sampling_and_objective_share",
    "train_step.ratio_to_bare",
    "train_step.moco.ratio_to_bare",
    "train_step.instfeat.ratio_to_bare",
    "train_step.peak_memory",
    "train_step.moco.peak_memory",
    "train_step.instfeat.peak_memory",
    "loader.images_per_second",
    "loader.images_per_second_one_core",
    "tracking.time_ratio_to_dense",
    "tracking.memory_ratio_to_dense",
    "tracking.time_ratio_to_dense_field",
    "tracking.memory_ratio_to_dense_field",
    "tracking.sequence_seconds_per_frame",
    "tracking.sequence_memory_mib",
    "retrieval.time_ratio_to_sklearn",
    "sampler.time_ratio_to_loop",
    "tree.load_ms",
    "grouping.seconds_per_image",
)
# at most; by a name's last word
BARS = {"sampling_and_objective_share": 0.10, "ratio_to_bare": 1.15, "load_ms": 2.0, "seconds_per_image": 0.5}
BARS |= dict.fromkeys(
    ("time_ratio_to_dense", "memory_ratio_to_dense", "time_ratio_to_sklearn", "time_ratio_to_loop"), 1.0
)
BARS |= dict.fromkeys(("time_ratio_to_dense_field", "memory_ratio_to_dense_field"), 1.0)
RATES = (100, 250, 500, 1000, 2000)  # images per second that a card may ask for
GPU_SHARE = 0.05  # sampling and objective on a GPU


def figure(value: float, unit: str, peer: str, n: int) -> dict[str, Any]:
    """value: to four digits; peer: what it was compared with; n: repeats, images or queries behind it."""
    return {"value": float(f"{value:.4g}"), "unit": unit, "peer": peer, "n": n}


def write(
    earlier: dict[str, dict[str, Any]], figures: dict[str, dict[str, Any]], started: float
) -> dict[str, dict[str, Any]]:
    """Write results.json, earlier figures and new ones, and results.md; returns the object."""
    where = machine(started)
    card = f", {where['card']}" if where["card"] else ""
    processor = f"{where['processor']}, {where['cores']} cores{card}"
    short = f"{processor}, torch {where['versions']['torch']}, {where['date']}"
    content = earlier | {name: found | {"machine": short} for name, found in figures.items()}
    if "loader.images_per_second_one_core" in content:
        content |= loader_cores(content)
    write_json(RESULTS, content)
    write_text(table_file(), markdown(content))
    return content


def loader_cores(content: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """How many cores of the loader keep up with the paper's step as measured, and at assumed rates."""
    loader = content["loader.images_per_second_one_core"]
    measured = {
        name: found["value"]
        for name, found in content.items()
        if re.fullmatch(r"train_step\.paper_\w+\.images_per_second", name)
    }
    rates = {
        f"loader.cores_for_{rate}_images_per_second": (rate, f"assumed: a batch of 70 in {70 / rate:.3g} s")
        for rate in RATES
    }
    rates |= {
        f"loader.cores_for_{name.split('.')[1]}": (rate, f"{name}: {rate}") for name, rate in measured.items()
    }
    loads = f"one core loads {loader['value']} images/s"
    made = {
        name: figure(rate / loader["value"], "cores", f"{peer}; {loads}", loader["n"])
        for name, (rate, peer) in rates.items()
    }
    return {name: found | {"machine": loader["machine"]} for name, found in made.items()}


def table_file() -> Path:
    return RESULTS.with_suffix(".md")


def markdown(content: dict[str, dict[str, Any]]) -> str:
    """Each figure beside its bar and its peer."""
    machines = sorted({found["machine"] for found in content.values()})
    lines = [f"Made by `make bench` from results.json, on: {'; '.join(machines)}.", ""]
    lines += ["| figure | value | unit | bar | met | n | against |", "|---|---|---|---|---|---|---|"]
    for name, found in sorted(content.items()):
        bar = bar_of(name, found)
        met = "" if bar is None else "yes" if found["value"] <= bar else "NO"
        at_most = "" if bar is None else f"at most {bar:g}"
        cells = (name, found["value"], found["unit"], at_most, met, found["n"], found["peer"])
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def bar_of(name: str, found: dict[str, Any]) -> float | None:
    if re.search(r"\.(moco|instfeat)\.", name):
        return None  # the bars are for our own step; the rivals' stand beside it
    bar = BARS.get(name.rpartition(".")[2])
    return GPU_SHARE if bar and found["unit"] == "share" and "on cuda" in found["peer"] else bar


def seconds_of(action: Callable[[], Any], times: int = 1) -> float:
    """Mean seconds of an action."""
    started = time.perf_counter()
    for _ in range(times):
        action()
    return (time.perf_counter() - started) / times


@contextmanager
def threads(count: int) -> Iterator[None]:
    """`count` threads for torch, OpenMP and every BLAS in this process: the same for both sides of a pair."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        torch.set_num_threads(before)
