"""What a measured training step means: figures for results.json, hours of the paper's training, a table."""

from __future__ import annotations

import re
from typing import Any

import torch
from figures import BARS, GPU_SHARE, figure

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


def card_peak(card: str, precision: str) -> float | None:
    """The card's peak in operations per second at a precision; None for a card that is not in PEAKS."""
    for name, (bf16, tf32, fp32) in PEAKS.items():
        if all(re.search(rf"\b{word}\b", card) for word in name.split()):
            return 1e12 * (bf16 if precision == "bf16" else tf32 if torch.backends.cudnn.allow_tf32 else fp32)
    return None


def hours(images_per_second: float) -> float:
    """Of the paper's 80 epochs over 93 thousand images, by the step alone."""
    return EPOCHS * IMAGES / images_per_second / 3600


def fraction_of_peak(found: dict[str, Any], name: str) -> float | None:
    peak = card_peak(torch.cuda.get_device_name(), found["precision"]) if found["device"] == "cuda" else None
    row = found["methods"][name]
    return row["flops_per_image"] * row["images_per_second"] / peak if peak else None


def as_figures(found: dict[str, Any], profile: str, prefix: str = "train_step") -> dict[str, dict[str, Any]]:
    """Named figures for results.json: the paper's method by the bare prefix, the rivals by their names."""
    on_cpu = f", {torch.get_num_threads()} thread(s)" if found["device"] == "cpu" else ""
    where = f"batch {found['batch']}, {found['precision']}, on {found['device']}{on_cpu}"
    what, n, figures = f"profile {profile}, {where}", found["steps"], {}
    for part in ("backbone", "hypercolumn"):
        passes = f"two views, forward and backward; {what}"
        figures[f"{prefix}.{part}_ms"] = figure(1000 * found[part], "ms", passes, n)
    for name, row in found["methods"].items():
        own = prefix if name == "hierarchical" else f"{prefix}.{name}"
        figures |= {f"{own}.{key}": value for key, value in _of_method(row, what, n).items()}
    if "hierarchical" in found["methods"]:
        row = found["methods"]["hierarchical"]
        figures |= {f"{prefix}.{key}": value for key, value in _of_ours(row, what, n).items()}
        if profile == "paper":
            figures |= {f"{prefix}.{key}": value for key, value in _of_paper(found, row, what, n).items()}
    return figures


def _of_method(row: dict[str, Any], what: str, n: int) -> dict[str, dict[str, Any]]:
    bare = f"bare network, the same passes and update: {1000 * row['bare']:.1f} ms; {what}"
    products = f"matrix products and convolutions of a step; {what}"
    figures = {
        "ratio_to_bare": figure(row["ratio"], "ratio", bare, n),
        "images_per_second": figure(row["images_per_second"], "images/s", what, n),
        "optimizer_ms": figure(1000 * row["parts"]["optimizer"], "ms", what, n),
        "gflop_per_image": figure(row["flops_per_image"] / 1e9, "GFLOP", products, 1),
    }
    if row["peak_mib"] is not None:
        beyond = f"beyond what Python and torch hold; {what}"
        figures["peak_memory"] = figure(row["peak_mib"], "MiB", beyond, 2)
    return figures


def _of_ours(row: dict[str, Any], what: str, n: int) -> dict[str, dict[str, Any]]:
    whole, seconds = (
        f"the whole step: {1000 * row['step']:.1f} ms; {what}",
        row["parts"]["sampling and objective"],
    )
    return {
        "sampling_and_objective_share": figure(row["share"], "share", whole, n),
        "sampling_and_objective_ms": figure(1000 * seconds, "ms", what, n),
    }


def _of_paper(found: dict[str, Any], row: dict[str, Any], what: str, n: int) -> dict[str, dict[str, Any]]:
    training = f"80 epochs over {IMAGES:,} images at that rate; an estimate; {what}"
    figures = {"hours_80_epochs": figure(hours(row["images_per_second"]), "h", training, n)}
    if (fraction := fraction_of_peak(found, "hierarchical")) is not None:
        card = f"{torch.cuda.get_device_name()}; {what}"
        figures["share_of_peak"] = figure(fraction, "of peak", card, n)
    return figures


def show(found: dict[str, Any], loader_rate: float | None) -> None:
    """Print the parts of our step, a row per method, and which bars are met."""
    ours = found["methods"].get("hierarchical")
    print(f"{'backbone, two views, forward and backward':50} {1000 * found['backbone']:9.1f} ms")
    print(f"{'the same and the hypercolumn':50} {1000 * found['hypercolumn']:9.1f} ms")
    for part in ("sampling and objective", "optimizer") if ours else ():
        seconds = ours["parts"][part]
        print(f"{part:50} {1000 * seconds:9.1f} ms {100 * seconds / ours['step']:6.1f} % of our step")
    if loader_rate:
        batch = f"{1000 * found['batch'] / loader_rate:9.1f} ms: {loader_rate:.1f} images/s"
        print(f"{'loader, on one core, a batch':50} {batch}")
    heads = ("step, ms", "bare, ms", "ratio", "images/s", "MiB", "GFLOP/image", "of peak", "80 epochs, h")
    print(f"\n{'method':14}" + "".join(f"{head:>15}" for head in (*heads, "cores to load")))
    for name in found["methods"]:
        print(f"{name:14}" + "".join(f"{cell:>15}" for cell in _cells(found, name, loader_rate)))
    if ours:
        bar = GPU_SHARE if found["device"] == "cuda" else BARS["sampling_and_objective_share"]
        _show_bar("sampling and objective", ours["share"], bar)
        _show_bar("our step, of the bare one", ours["ratio"], BARS["ratio_to_bare"])


def _cells(found: dict[str, Any], name: str, loader_rate: float | None) -> list[str]:
    row, fraction = found["methods"][name], fraction_of_peak(found, name)
    rate = row["images_per_second"]
    return [
        f"{1000 * row['step']:.1f}",
        f"{1000 * row['bare']:.1f}",
        f"{row['ratio']:.3f}",
        f"{rate:.1f}",
        "-" if row["peak_mib"] is None else f"{row['peak_mib']:.0f}",
        f"{row['flops_per_image'] / 1e9:.2f}",
        "-" if fraction is None else f"{fraction:.0%}",
        f"{hours(rate):.1f}",
        f"{rate / loader_rate:.2f}" if loader_rate else "-",
    ]


def _show_bar(name: str, value: float, bar: float) -> None:
    print(f"{name}: {value:.3f}, at most {bar:g}: {'met' if value <= bar else 'NOT MET'}")
