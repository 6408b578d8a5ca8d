"""Where a result comes from: fingerprints of what made it, and the machine and versions beside it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1]
# The modules whose code decides a stage's results; `dvc.yaml` lists the same ones, which a test asserts.
CODE = {
    "data": ("data",),
    "grouping": ("grouping",),
    "hed": ("grouping/hed",),
    "pretrain": ("sampling", "pretraining"),
    "probe": (
        "pretraining/network.py",
        "evaluation/features.py",
        "evaluation/colour.py",
        "metrics/segmentation.py",
        "evaluation/probe.py",
        "evaluation/probe_batches.py",
    ),
    "convergence": (
        "pretraining/network.py",
        "evaluation/features.py",
        "metrics/segmentation.py",
        "evaluation/probe.py",
        "evaluation/probe_batches.py",
        "evaluation/convergence.py",
    ),
    "retrieval": (
        "pretraining/network.py",
        "evaluation/features.py",
        "evaluation/colour.py",
        "metrics/segmentation.py",
        "evaluation/retrieval.py",
    ),
    "tracking": (
        "pretraining/network.py",
        "evaluation/features.py",
        "evaluation/colour.py",
        "metrics/segmentation.py",
        "metrics/outlines.py",
        "metrics/video.py",
        "evaluation/tracking.py",
    ),
}
PACKAGES = ("torch", "torchvision", "numpy", "opencv-contrib-python", "higra", "faiss-cpu", "scikit-image")


def fingerprint(*parts: Any) -> str:
    """A short hash of JSON-able values and of files' contents (given as Path; a missing file counts as such)."""
    digest = hashlib.sha256()
    for part in parts:
        content = (
            _file_digest(part) if isinstance(part, Path) else json.dumps(part, sort_keys=True, default=str)
        )
        digest.update(content.encode() + b"\0")
    return digest.hexdigest()[:16]


def code_fingerprint(stage: str, leave_out: tuple[str, ...] = ()) -> str:
    """A hash of the modules that decide a stage's results."""
    files = [
        file
        for name in CODE[stage]
        if name not in leave_out
        for file in sorted((PACKAGE / name).rglob("*.py") if (PACKAGE / name).is_dir() else [PACKAGE / name])
    ]
    return fingerprint(*files)


def machine(started: float) -> dict[str, Any]:
    """Seconds since `started` (time.monotonic), processor, cores, card and versions: kept beside the scores,
    not among them.
    """
    import torch

    return {
        "seconds": round(time.monotonic() - started, 1),
        "date": time.strftime("%Y-%m-%d"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "card": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"
