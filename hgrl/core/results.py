"""Scores for the tables, and beside them where they come from: settings, versions, time and machine."""

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hgrl.core.experiment import Experiment
from hgrl.core.files import read_json, remove_unfinished, write_json

PACKAGES = ("torch", "torchvision", "numpy", "opencv-contrib-python", "higra", "faiss-cpu", "scikit-image")
ORIGIN = ".origin"
COST = "core_seconds"  # beside results, not among them: it differs whenever it is measured again


Content = dict[str, Any]


def write_results(
    experiment: Experiment,
    stage: str,
    name: str,
    content: Content,
    settings: Content,
    started: float,
    **beside: Any,
) -> None:
    """Scores in `<name>.json`, equal whenever they are made again; the rest in `<name>.origin.json`.

    started: time.monotonic() when the work began; beside: what else to say of the origin."""
    path = experiment.files.result(stage, name)
    remove_unfinished(path.parent)
    write_json(path, {"profile": experiment.profile, "stage": stage, "name": name, **content})
    write_json(path.with_name(f"{name}{ORIGIN}.json"), {"settings": settings, **machine(started), **beside})


def read_results(experiment: Experiment, stage: str) -> dict[str, Any]:
    """All results of a stage that have been made so far, by name."""
    files = sorted((experiment.files.results / stage).glob("*.json"))
    return {path.stem: read_json(path) for path in files if not path.stem.endswith(ORIGIN)}


def read_extras(experiment: Experiment, stage: str) -> dict[str, Any]:
    """What the extras published of a stage, made here or committed; nothing where they never were."""
    path = experiment.files.extras.metrics(stage)
    return read_json(path) if path.exists() else {}


def machine(started: float) -> dict[str, Any]:
    """Seconds since `started` (time.monotonic), date, processor, cores, card and versions."""
    import torch  # here: whoever writes no results needs none

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
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else ()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())
