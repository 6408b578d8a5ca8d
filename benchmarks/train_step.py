"""What a training step costs, part by part, and each method against the bare network work that it must do:
one run, made-up batches.

    python benchmarks/train_step.py                                           # profile mini, here
    python benchmarks/train_step.py --profile paper --batch 4 --steps 3       # the paper's network on a CPU
    python benchmarks/train_step.py --profile paper --device cuda --precision bf16 [--compile] [--largest]

Bare is the same forward and backward passes and the same update, without sampling, objective, heads and
queues: two views through backbone and hypercolumn for the paper's method, two views through the backbone for
InstFeat, one trained view and one of the momentum encoder for MoCo. The learning rate is 0, so that every
repeat does the same work. Times are medians; the passes take turns, so that other work on the machine meets
all alike, and a ratio is the median of the repeats' own. An image counts once, though two views of it are
seen.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import threads
from loader import core_rate, made_photographs
from memory import forget_peak, peak_mib
from rig import METHODS, Rig
from step_figures import show

from hgrl.core.device import pick_device
from hgrl.core.errors import InputError
from hgrl.core.experiment import load_experiment
from hgrl.core.settings import Settings

WARM_UP, STEPS = 3, 20


def measure(
    settings: Settings,
    device: torch.device,
    methods: tuple[str, ...] = METHODS,
    steps: int = STEPS,
    compiled: bool = False,
) -> dict[str, Any]:
    """Medians in seconds over `steps` repeats: {"backbone", "hypercolumn", "methods": {name: `_summary`}}."""
    peaks = {name: peak_memory(name, settings, device, compiled) for name in methods}
    if compiled:
        torch._dynamo.reset()  # it compiles one function only so many times, and then leaves it as it is
    names = (*methods, *{"hierarchical", "instfeat"}.difference(methods))
    rigs = {name: Rig(name, settings, device) for name in names}
    flops = {name: rigs[name].flops_per_image() for name in methods}
    for rig in rigs.values() if compiled else ():
        rig.compile()
    times = _timed_in_turns(rigs, methods, steps)
    rows = {
        name: _summary(times[name, "step"], times[name, "bare"], settings.pretrain.batch)
        | {"peak_mib": peaks[name], "flops_per_image": flops[name]}
        for name in methods
    }
    passing = {
        part: _median([seconds["forward"] + seconds["backward"] for seconds in times[name, "bare"]])
        for part, name in (("backbone", "instfeat"), ("hypercolumn", "hierarchical"))
    }
    own = settings.pretrain
    what = {"device": device.type, "batch": own.batch, "steps": steps, "precision": own.precision}
    return what | passing | {"methods": rows}


def _timed_in_turns(
    rigs: dict[str, Rig], methods: tuple[str, ...], steps: int
) -> dict[tuple[str, str], list[dict[str, float]]]:
    """{(method, "step" or "bare"): seconds by part of each repeat}, behind a few that are not counted."""
    passes = [(name, kind) for name in rigs for kind in (("step", "bare") if name in methods else ("bare",))]
    times: dict[tuple[str, str], list[dict[str, float]]] = {key: [] for key in passes}
    warm_up = min(WARM_UP, steps)
    for repeat in range(warm_up + steps):
        for name, kind in passes if repeat % 2 else passes[::-1]:
            times[name, kind].append(getattr(rigs[name], kind)())
    return {key: found[warm_up:] for key, found in times.items()}


def _summary(steps: list[dict[str, float]], bare: list[dict[str, float]], batch: int) -> dict[str, Any]:
    """step, bare (s); ratio; share: of the step, sampling and objective; parts (s); images_per_second."""
    totals, bare_totals = [sum(part.values()) for part in steps], [sum(part.values()) for part in bare]
    ours = [part["sampling and objective"] for part in steps]
    return {
        "step": _median(totals),
        "bare": _median(bare_totals),
        "ratio": _median([own / other for own, other in zip(totals, bare_totals, strict=True)]),
        "share": _median([own / total for own, total in zip(ours, totals, strict=True)]),
        "parts": {name: _median([part[name] for part in steps]) for name in steps[0]},
        "images_per_second": batch / _median(totals),
    }


def _median(values: list[float]) -> float:
    return float(np.median(values))


def peak_memory(name: str, settings: Settings, device: torch.device, compiled: bool = False) -> float | None:
    """MiB that a method's training holds at most: of the card, or of a fresh process beyond what it held
    before the method was built; None on other devices."""
    if device.type == "cuda":
        release()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        _two_steps(name, settings, device, compiled)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    if device.type != "cpu":
        return None
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_resident, name, settings, torch.get_num_threads()).result()


def _resident(name: str, settings: Settings, count: int) -> float:
    torch.set_num_threads(count)
    before = forget_peak()
    _two_steps(name, settings, torch.device("cpu"), False)
    return peak_mib() - before


def _two_steps(name: str, settings: Settings, device: torch.device, compiled: bool) -> None:
    rig = Rig(name, settings, device)
    if compiled:
        rig.compile()
    for _ in range(2):  # the optimiser's own state comes with the first
        rig.step()


def largest_batch(fits: Callable[[int], bool], start: int, closeness: float = 0.02) -> int:
    """The largest batch that fits, to within `closeness` of it, by doubling and bisecting; 0 where `start` is
    too large."""
    low, high = 0, start
    while fits(high):
        low, high = high, 2 * high
    while low and high - low > max(1, closeness * low):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def fits_card(
    settings: Settings, device: torch.device, methods: tuple[str, ...], compiled: bool
) -> Callable[[int], bool]:
    """A function that tries whether all that is to be measured fits the card's memory at a batch."""

    def fits(batch: int) -> bool:
        try:
            measure(with_pretrain(settings, batch=batch), device, methods, 1, compiled)
            fitted = True
        except torch.cuda.OutOfMemoryError:
            fitted = False
        release()  # here: within the handler its frames still hold the tensors
        return fitted

    return fits


def release() -> None:
    """Give back the card's memory that nothing uses any more. A rig and its hooks hold each other, which only
    the collector sees."""
    gc.collect()
    torch.cuda.empty_cache()


def with_pretrain(settings: Settings, **changes: Any) -> Settings:
    known = {
        key: value
        for key, value in changes.items()
        if value is not None and key in type(settings.pretrain).model_fields
    }
    return settings.model_copy(update={"pretrain": settings.pretrain.model_copy(update=known)})


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", default="mini")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--batch", type=int, help="default: the profile's, 70 in `paper`")
    parser.add_argument("--largest", action="store_true", help="the largest batch that fits the card")
    parser.add_argument("--precision", choices=("fp32", "bf16"), help="default: the profile's")
    parser.add_argument("--compile", action="store_true", help="torch.compile the network")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"timed repeats; default: {STEPS}")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--threads", type=int, default=1, help="of a CPU; default: 1")
    parser.add_argument("--no-loader", action="store_true", help="leave the loader out")
    return parser.parse_args()


def main() -> None:
    given = options()
    if given.device == "cuda" and not torch.cuda.is_available():
        remedy = "leave the option out, or install a torch build for the card"
        raise InputError(f"--device cuda: torch sees no GPU here; {remedy}")
    device = pick_device(given.device)
    changes = {"batch": given.batch, "precision": given.precision, "compile": given.compile or None}
    settings = with_pretrain(load_experiment(given.profile).settings, **changes)
    if given.largest:
        if device.type != "cuda":
            raise InputError("--largest: there is no GPU whose memory could be filled; name a --batch")
        batch = largest_batch(fits_card(settings, device, tuple(given.methods), given.compile), 16)
        settings = with_pretrain(settings, batch=batch)
        print(f"the largest batch that fits: {batch}")
    with threads(given.threads):
        print(f"profile {given.profile} on {_described(settings, device, given)}\n", flush=True)
        found = measure(settings, device, tuple(given.methods), given.steps, given.compile)
        rate = None
        if not given.no_loader:
            with tempfile.TemporaryDirectory() as name:
                rate = core_rate(*made_photographs(Path(name), settings), settings)
        show(found, rate)


def _described(settings: Settings, device: torch.device, given: argparse.Namespace) -> str:
    on_gpu, own = device.type == "cuda", settings.pretrain
    where = torch.cuda.get_device_name() if on_gpu else f"{device.type}, {given.threads} thread(s)"
    size = f"{settings.network.backbone}, crop {settings.augment.crop_size}, batch {own.batch}"
    what = f"{size}, {own.precision}{', compiled' * given.compile}"
    return f"{where}: {what}; medians of {given.steps} interleaved repeats"


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(str(error)) from None
