"""What a training step costs, part by part, and each method against the bare network work that it must do:
one run, made-up batches.

    python benchmarks/train_step.py                                           # profile mini, here
    python benchmarks/train_step.py --profile paper --batch 4 --steps 3       # the paper's network on a CPU
    python benchmarks/train_step.py --profile paper --device cuda --precision bf16 [--compile] [--batch 140 |
    --largest]

Bare is the same forward and backward passes and the same update, without sampling, objective, heads and
queues: two views through backbone and hypercolumn for the paper's method, two views through the backbone for
InstFeat, one trained view and one of the momentum encoder for MoCo. The learning rate is 0, so that every
repeat does the same work. Times are medians; all passes take turns, so that what else the machine does meets
them alike, and a ratio is the median of the repeats' own. An image counts once, though two views of it are
seen.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import re
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import BARS, GPU_SHARE, figure, threads
from loader import core_rate, made_photographs
from memory import forget_peak, peak_mib
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from hgrl.core.errors import InputError
from hgrl.core.settings import Settings, load_settings
from hgrl.core.device import pick_device
from hgrl.pretraining.methods import Method, build_method
from hgrl.pretraining.methods.hierarchical import pixel_loss
from hgrl.pretraining.methods.instfeat import instance_loss
from hgrl.pretraining.methods.contrast import image_codes
from hgrl.pretraining.network import normalise
from hgrl.sampling.views import Batch

WARM_UP, STEPS = 3, 20
METHODS = ("hierarchical", "moco", "instfeat")
IMAGES, EPOCHS = 93_365, 80  # of the paper: VOC train_aug and COCO train2014
PEAKS = {  # dense TFLOP/s of NVIDIA's data sheets: bf16, TF32 (torch's default for fp32 convolutions), fp32
    "H200": (989, 495, 67),
    "H100 PCIe": (756, 378, 51),
    "H100 NVL": (835, 418, 60),
    "H100": (989, 495, 67),
    "A100": (312, 156, 19.5),
    "A10G": (70, 35, 31.5),
    "A10": (125, 62.5, 31.2),
    "L40S": (362, 183, 91.6),
    "L4": (121, 60, 30.3),
    "RTX 4090": (165, 82.6, 82.6),
    "RTX 3090": (71, 35.6, 35.6),
}


# --- one method's step, cut where the network ends
# ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cut:
    """How a method's loss falls into the trained network's work and the rest: `rest(network(batch), batch)`
    is the loss.
    """

    network: Callable[[Method, Batch], Tensor]
    rest: Callable[[Method, Tensor, Batch], Tensor]


CUTS = {
    "hierarchical": Cut(
        lambda method, batch: method.network(normalise(batch.flat_images)),
        lambda method, embedding, batch: pixel_loss(embedding, batch, method.sampling, method.objective)[0],
    ),
    "moco": Cut(
        lambda method, batch: method.network.backbone(normalise(batch.images[0]))[-1],
        lambda method, features, batch: method.image_loss(features, batch)[0],
    ),
    "instfeat": Cut(
        lambda method, batch: method.network.backbone(normalise(batch.flat_images))[-1],
        lambda method, features, batch: instance_loss(
            image_codes(features, method.head), method.instfeat.temperature
        ),
    ),
}


class Watch:
    """Seconds of the parts of one pass: each mark ends a part. On a GPU the device's own clock, read when all
    is done.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.names, self.marks = device, [], []
        self.mark("")

    def mark(self, part: str) -> None:
        if self.device.type == "cuda":
            moment = torch.cuda.Event(enable_timing=True)
            moment.record()
        else:
            if self.device.type != "cpu":
                torch.accelerator.synchronize()
            moment = time.perf_counter()
        self.names.append(part)
        self.marks.append(moment)

    def seconds(self) -> dict[str, float]:
        """Seconds by part; parts of one name are added."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        found: dict[str, float] = {}
        for part, before, after in zip(self.names[1:], self.marks, self.marks[1:]):
            seconds = before.elapsed_time(after) / 1000 if self.device.type == "cuda" else after - before
            found[part] = found.get(part, 0.0) + seconds
        return found


class Rig:
    """A method with its optimiser on one made-up batch."""

    def __init__(self, name: str, settings: Settings, device: torch.device) -> None:
        self.name, self.settings, self.device, self.cut = name, settings, device, CUTS[name]
        torch.manual_seed(0)
        self.method = build_method(name, settings).to(device).train()
        if settings.pretrain.channels_last:
            self.method = self.method.to(memory_format=torch.channels_last)
        # as hgrl.pretraining.loop, but for the rate
        self.optimizer = torch.optim.Adam(self.method.parameters(), lr=0.0, fused=device.type != "mps")
        self.batch = made_batch(settings, device)
        self.watch = Watch(device)
        if name == "moco":
            self.method.key_encoder.register_forward_pre_hook(
                lambda *_: self.watch.mark("sampling and objective")
            )
            self.method.key_encoder.register_forward_hook(lambda *_: self.watch.mark("momentum forward"))

    def compile(self) -> None:
        modules = [self.method.network] if self.name == "hierarchical" else [self.method.network.backbone]
        if self.name == "moco":
            modules += list(self.method.key_encoder.copies)
        for module in modules:
            module.compile()

    def step(self) -> dict[str, float]:
        """Seconds of the parts of the method's whole step; the loss's backward pass is cut at the network's
        output, to be timed by itself.
        """
        self.watch = Watch(self.device)
        with self._autocast():
            output = self.cut.network(self.method, self.batch)
            self.watch.mark("forward")
            leaf = output.detach().requires_grad_()
            loss = self.cut.rest(self.method, leaf, self.batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.watch.mark("sampling and objective")
        self._update(output, leaf.grad)
        return self.watch.seconds()

    def bare(self) -> dict[str, float]:
        """Seconds of the network's own share of that: its passes and the update, with a gradient of ones."""
        self.watch = Watch(self.device)
        with self._autocast():
            output = self.cut.network(self.method, self.batch)
            self.watch.mark("forward")
            if self.name == "moco":
                with torch.no_grad():
                    self.method.key_encoder.copies[0](normalise(self.batch.images[1]))
                self.watch.mark("momentum forward")
        self.optimizer.zero_grad(set_to_none=True)
        self._update(output, torch.ones_like(output))
        return self.watch.seconds()

    def _update(self, output: Tensor, gradient: Tensor) -> None:
        output.backward(gradient)
        self.watch.mark("backward")
        self.optimizer.step()
        self.watch.mark("optimizer")

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.settings.pretrain.precision == "bf16"
        )

    def flops_per_image(self) -> float:
        """Operations of matrix products and convolutions in a step; a multiplication and an addition are two."""
        with FlopCounterMode(display=False) as counter:
            self.step()
        return counter.get_total_flops() / self.settings.pretrain.batch


def made_batch(settings: Settings, device: torch.device) -> Batch:
    """Random images, label maps of `max_regions` bands, random distances."""
    images, side, regions = settings.pretrain.batch, settings.augment.crop_size, settings.grouping.max_regions
    cells = side // 4
    generator = torch.Generator(device).manual_seed(0)
    bands = (torch.arange(cells * cells, device=device).view(cells, cells) * regions // (cells * cells)).to(
        torch.uint8
    )
    distances = torch.rand(images, regions, regions, generator=generator, device=device)
    pixels = torch.randint(
        0, 256, (2, images, 3, side, side), generator=generator, dtype=torch.uint8, device=device
    )
    return Batch(
        pixels,
        bands.expand(2, images, cells, cells).contiguous(),
        torch.maximum(distances, distances.mT),
        0.0,
        generator,
    )


# --- what is measured
# -----------------------------------------------------------------------------------------------------------


def measure(
    settings: Settings,
    device: torch.device,
    methods: tuple[str, ...] = METHODS,
    steps: int = STEPS,
    compiled: bool = False,
) -> dict[str, Any]:
    """Medians over `steps` repeats in seconds; {"backbone", "hypercolumn", "methods": {name: {...}}}; see
    `_summary` for a method's.
    """
    peaks = {name: peak_memory(name, settings, device, compiled) for name in methods}
    if compiled:
        torch._dynamo.reset()  # it compiles one function only so many times, and then leaves it as it is
    rigs = {
        name: Rig(name, settings, device)
        for name in (*methods, *{"hierarchical", "instfeat"}.difference(methods))
    }
    flops = {name: rigs[name].flops_per_image() for name in methods}
    passes = [(name, kind) for name in rigs for kind in (("step", "bare") if name in methods else ("bare",))]
    for rig in rigs.values() if compiled else ():
        rig.compile()
    times: dict[tuple[str, str], list[dict[str, float]]] = {key: [] for key in passes}
    warm_up = min(WARM_UP, steps)
    for repeat in range(warm_up + steps):
        for name, kind in passes if repeat % 2 else passes[::-1]:
            times[name, kind].append(getattr(rigs[name], kind)())
    times = {key: found[warm_up:] for key, found in times.items()}
    passing = {
        name: _median([part["forward"] + part["backward"] for part in times[name, "bare"]])
        for name in ("hierarchical", "instfeat")
    }
    found = {
        "device": device.type,
        "batch": settings.pretrain.batch,
        "steps": steps,
        "precision": settings.pretrain.precision,
    }
    found |= {"backbone": passing["instfeat"], "hypercolumn": passing["hierarchical"]}
    rows = {
        name: _summary(times[name, "step"], times[name, "bare"], settings.pretrain.batch) for name in methods
    }
    return found | {
        "methods": {
            name: row | {"peak_mib": peaks[name], "flops_per_image": flops[name]}
            for name, row in rows.items()
        }
    }


def _summary(steps: list[dict[str, float]], bare: list[dict[str, float]], batch: int) -> dict[str, Any]:
    """step, bare (s); ratio; share: of sampling and objective in the step; parts (s); images_per_second."""
    totals, bare_totals = [sum(part.values()) for part in steps], [sum(part.values()) for part in bare]
    return {
        "step": _median(totals),
        "bare": _median(bare_totals),
        "ratio": _median([own / other for own, other in zip(totals, bare_totals, strict=True)]),
        "share": _median(
            [part["sampling and objective"] / total for part, total in zip(steps, totals, strict=True)]
        ),
        "parts": {name: _median([part[name] for part in steps]) for name in steps[0]},
        "images_per_second": batch / _median(totals),
    }


def _median(values: list[float]) -> float:
    return float(np.median(values))


def peak_memory(name: str, settings: Settings, device: torch.device, compiled: bool = False) -> float | None:
    """MiB that a method's training holds at most: of the card, or of a fresh process beyond what it held
    before the method was built.
    """
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
    """The largest batch that fits, to within `closeness` of it: doubled until it does not, then bisected. 0:
    not even `start`.
    """
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
    """Whether all that is to be measured fits the card's memory at a batch: tried out."""

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
    """Give the card's memory back that nothing uses any more; a rig and its hooks hold one another, which
    only the collector sees.
    """
    gc.collect()
    torch.cuda.empty_cache()


def card_peak(card: str, precision: str) -> float | None:
    """The card's peak in operations a second at a precision; None for a card that the table does not know."""
    for name, (bf16, tf32, fp32) in PEAKS.items():
        if all(re.search(rf"\b{word}\b", card) for word in name.split()):
            return 1e12 * (bf16 if precision == "bf16" else tf32 if torch.backends.cudnn.allow_tf32 else fp32)
    return None


def hours(images_per_second: float) -> float:
    """Of the paper's 80 epochs over 93 thousand images, by the step alone."""
    return EPOCHS * IMAGES / images_per_second / 3600


def with_pretrain(settings: Settings, **changes: Any) -> Settings:
    known = {
        key: value
        for key, value in changes.items()
        if value is not None and key in type(settings.pretrain).model_fields
    }
    return settings.model_copy(update={"pretrain": settings.pretrain.model_copy(update=known)})


# --- results
# --------------------------------------------------------------------------------------------------------------------


def as_figures(found: dict[str, Any], profile: str, prefix: str = "train_step") -> dict[str, dict[str, Any]]:
    """Named figures for results.json: the paper's method by the bare prefix, the rivals by their names."""
    where = f"on {found['device']}" + (
        f", {torch.get_num_threads()} thread(s)" if found["device"] == "cpu" else ""
    )
    what = f"profile {profile}, batch {found['batch']}, {found['precision']}, {where}"
    n, figures = found["steps"], {}
    for part in ("backbone", "hypercolumn"):
        figures[f"{prefix}.{part}_ms"] = figure(
            1000 * found[part], "ms", f"two views, forward and backward; {what}", n
        )
    for name, row in found["methods"].items():
        own = prefix if name == "hierarchical" else f"{prefix}.{name}"
        bare = f"bare network, the same passes and update: {1000 * row['bare']:.1f} ms; {what}"
        figures[f"{own}.ratio_to_bare"] = figure(row["ratio"], "ratio", bare, n)
        figures[f"{own}.images_per_second"] = figure(row["images_per_second"], "images/s", what, n)
        figures[f"{own}.optimizer_ms"] = figure(1000 * row["parts"]["optimizer"], "ms", what, n)
        figures[f"{own}.gflop_per_image"] = figure(
            row["flops_per_image"] / 1e9, "GFLOP", f"matrix products and convolutions of a step; {what}", 1
        )
        if row["peak_mib"] is not None:
            figures[f"{own}.peak_memory"] = figure(
                row["peak_mib"], "MiB", f"beyond what Python and torch hold; {what}", 2
            )
        if name == "hierarchical":
            figures[f"{own}.sampling_and_objective_share"] = figure(
                row["share"], "share", f"the whole step: {1000 * row['step']:.1f} ms; {what}", n
            )
            figures[f"{own}.sampling_and_objective_ms"] = figure(
                1000 * row["parts"]["sampling and objective"], "ms", what, n
            )
    if profile == "paper":
        rate = found["methods"]["hierarchical"]["images_per_second"]
        figures[f"{prefix}.hours_80_epochs"] = figure(
            hours(rate), "h", f"80 epochs over {IMAGES:,} images at that rate; an estimate; {what}", n
        )
        share = share_of_peak(found, "hierarchical")
        if share is not None:
            figures[f"{prefix}.share_of_peak"] = figure(
                share, "of peak", f"{torch.cuda.get_device_name()}; {what}", n
            )
    return figures


def share_of_peak(found: dict[str, Any], name: str) -> float | None:
    peak = card_peak(torch.cuda.get_device_name(), found["precision"]) if found["device"] == "cuda" else None
    row = found["methods"][name]
    return row["flops_per_image"] * row["images_per_second"] / peak if peak else None


def show(found: dict[str, Any], loader_rate: float | None) -> None:
    ours = found["methods"].get("hierarchical")
    print(f"{'backbone, two views, forward and backward':50} {1000 * found['backbone']:9.1f} ms")
    print(f"{'the same and the hypercolumn':50} {1000 * found['hypercolumn']:9.1f} ms")
    for part in ("sampling and objective", "optimizer") if ours else ():
        print(
            f"{part:50} {1000 * ours['parts'][part]:9.1f} ms {100 * ours['parts'][part] / ours['step']:6.1f} % of our step"
        )
    if loader_rate:
        print(
            f"{'loader, on one core, a batch':50} {1000 * found['batch'] / loader_rate:9.1f} ms: {loader_rate:.1f} images/s"
        )
    heads = (
        "step, ms",
        "bare, ms",
        "ratio",
        "images/s",
        "MiB",
        "GFLOP/image",
        "of peak",
        "80 epochs, h",
        "cores to load",
    )
    print(f"\n{'method':14}" + "".join(f"{head:>15}" for head in heads))
    for name, row in found["methods"].items():
        rate, share = row["images_per_second"], share_of_peak(found, name)
        cells = [
            f"{1000 * row['step']:.1f}",
            f"{1000 * row['bare']:.1f}",
            f"{row['ratio']:.3f}",
            f"{rate:.1f}",
        ]
        cells += [
            "-" if row["peak_mib"] is None else f"{row['peak_mib']:.0f}",
            f"{row['flops_per_image'] / 1e9:.2f}",
        ]
        cells += [
            "-" if share is None else f"{share:.0%}",
            f"{hours(rate):.1f}",
            f"{rate / loader_rate:.2f}" if loader_rate else "-",
        ]
        print(f"{name:14}" + "".join(f"{cell:>15}" for cell in cells))
    if ours:
        bars = {
            "sampling and objective": (
                ours["share"],
                GPU_SHARE if found["device"] == "cuda" else BARS["sampling_and_objective_share"],
            )
        }
        bars["our step, of the bare one"] = (ours["ratio"], BARS["ratio_to_bare"])
        for name, (value, bar) in bars.items():
            print(f"{name}: {value:.3f}, at most {bar:g}: {'met' if value <= bar else 'NOT MET'}")


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
        raise InputError(
            "--device cuda: torch sees no GPU here; leave the option out, or install a torch build for the card"
        )
    device = pick_device(given.device)
    settings = with_pretrain(
        load_settings(given.profile),
        batch=given.batch,
        precision=given.precision,
        compile=given.compile or None,
    )
    if given.largest:
        if device.type != "cuda":
            raise InputError("--largest: there is no GPU whose memory could be filled; name a --batch")
        batch = largest_batch(fits_card(settings, device, tuple(given.methods), given.compile), 16)
        settings = with_pretrain(settings, batch=batch)
        print(f"the largest batch that fits: {batch}")
    with threads(given.threads):
        where = (
            torch.cuda.get_device_name()
            if device.type == "cuda"
            else f"{device.type}, {given.threads} thread(s)"
        )
        own = settings.pretrain
        what = f"{settings.network.backbone}, crop {settings.augment.crop_size}, batch {own.batch}, {own.precision}{', compiled' * given.compile}"
        print(
            f"profile {given.profile} on {where}: {what}; medians of {given.steps} interleaved repeats\n",
            flush=True,
        )
        found = measure(settings, device, tuple(given.methods), given.steps, given.compile)
        rate = None
        if not given.no_loader:
            with tempfile.TemporaryDirectory() as name:
                rate = core_rate(*made_photographs(Path(name), settings), settings)
        show(found, rate)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(str(error)) from None
