"""`python -m hgrl ship`: a trained network into the package, in half precision, with its card."""

import hashlib
import io
from pathlib import Path

import torch
import yaml

from hgrl.core.checkpoint import load_complete
from hgrl.core.experiment import Experiment, Run
from hgrl.core.files import read_json, write_bytes, write_text
from hgrl.core.results import ORIGIN
from hgrl.evaluation.networks import network_of, weights_file
from hgrl.evaluation.shipped import shipped_file
from hgrl.reporting.scores import found, headline

MEASURES = {"mIoU": "miou", "pixel accuracy": "pixel_accuracy"}
DRAWN = """It learnt from scenes that this project draws over scikit-image's free photographs. The trees that
ours learnt from come from the shipped edge detector; its terms are BSDS500's: research and education."""
PHOTOGRAPHED = """It learnt from others' photographs, which are for research and education: so is it. See
`docs/real-data.md`, Terms."""


def ship(experiment: Experiment, run: Run, seed: int) -> Path:
    """Write a trained network and its card where the package reads them; returns the network's file.

    The file holds the weights alone, (name -> float16 or int64 tensor). InputError for a checkpoint that is
    missing or half trained, and for a run whose probe has not been scored."""
    checkpoint = weights_file(experiment, run, seed)
    steps, network = load_complete(checkpoint).step, network_of(checkpoint, run.settings.network)
    halved = {name: _half(weights) for name, weights in network.state_dict().items()}
    buffer, path = io.BytesIO(), shipped_file(experiment.profile, run.name)
    torch.save(halved, buffer)
    parameters = sum(weights.numel() for weights in network.parameters())
    checksum = hashlib.sha256(buffer.getvalue()).hexdigest()
    about = {
        "profile, run, seed": f"`{experiment.profile}`, `{run.name}`, {seed}",
        "learnt from": _data(run),
        "steps": f"{steps:,} of {run.settings.pretrain.batch} images",
        "parameters": f"{parameters:,}, in half precision",
        "size": f"{len(buffer.getvalue()) / 1e6:.1f} MB",
        "sha256": f"`{checksum}`",
        **_scores(experiment, run, seed),
        **_origin(experiment, run),
    }
    write_bytes(path, buffer.getvalue())
    write_text(path.with_suffix(".md"), _card(experiment, run, about))
    return path


def _half(weights: torch.Tensor) -> torch.Tensor:
    return weights.half() if weights.is_floating_point() else weights


def _data(run: Run) -> str:
    sources, scenes = run.settings.data.pretrain, run.settings.data.scenes is not None
    folders = ", ".join(source.split if scenes else f"{source.folder} ({source.split})" for source in sources)
    return f"{'embedded scenes, split ' if scenes else ''}{folders}; no label"


def _scores(experiment: Experiment, run: Run, seed: int) -> dict[str, str]:
    scores = read_json(experiment.files.result("probe", run.name))["seeds"][str(seed)]
    head = headline(experiment, "probe", run)
    rows = {}
    for labelled, of_set in scores.items():
        values = {name: found(of_set, (head, key)) for name, key in MEASURES.items()}
        rows[f"frozen probe on {labelled}"] = ", ".join(
            f"{name} {100 * v:.1f} %" for name, v in values.items()
        )
    return rows


def _origin(experiment: Experiment, run: Run) -> dict[str, str]:
    result = experiment.files.result("pretraining", run.name)
    origin = read_json(result.with_name(f"{run.name}{ORIGIN}.json"))
    versions = ", ".join(f"{name} {number}" for name, number in origin["versions"].items())
    return {"made": f"{origin['date']}, {origin['processor']}", "versions": versions}


def _card(experiment: Experiment, run: Run, about: dict[str, str]) -> str:
    """The card in Markdown: facts, settings, terms."""
    rows = "\n".join(f"| {name} | {value} |" for name, value in about.items())
    sections = run.settings.model_dump(mode="json", include={"network", "sampling", "objective", "pretrain"})
    settings = yaml.safe_dump(sections, sort_keys=False, default_flow_style=None, width=100).strip()
    return f"""# `{shipped_file(experiment.profile, run.name).name}`

A small ResNet, trained from scratch without a label. The notebooks show it where nothing has been trained
yet. It is one seed of a run: the tables have means and deviations over seeds.

| | |
|---|---|
{rows}

Made by `python -m hgrl ship {experiment.profile} {run.name}`; read by `hgrl.evaluation.shipped`.

## Settings

```yaml
{settings}
```

## Terms

{DRAWN if experiment.settings.data.scenes is not None else PHOTOGRAPHED}
"""
