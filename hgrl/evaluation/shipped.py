"""Small trained networks that ship with the package: what notebooks show before anything is trained here."""

from pathlib import Path

import torch
from torch import nn

from hgrl.core.errors import InputError
from hgrl.core.experiment import Experiment, Run
from hgrl.evaluation.features import Features
from hgrl.evaluation.networks import load_features, load_network, weights_file
from hgrl.evaluation.weights import FORMATS
from hgrl.pretraining.methods import REGISTRY
from hgrl.pretraining.network import Network

MODELS = Path(__file__).parent / "models"


def shipped_file(profile: str, run: str) -> Path:
    """Where the network of a run ships; beside it, as `.md`, its card."""
    return MODELS / f"{profile}-{run}.pt"


def features_to_show(experiment: Experiment, run: Run, seed: int) -> Features:
    """As `load_features`, with `network_to_show`: for pictures, never for scores."""
    return load_features(experiment, run, seed, network_to_show)


def network_to_show(experiment: Experiment, run: Run, seed: int) -> nn.Module:
    """The network that was trained here; else the one that ships, and says so.

    InputError if there is neither, or if what ships is not of the profile's network."""
    if run.method not in REGISTRY or run.method in FORMATS or weights_file(experiment, run, seed).exists():
        return load_network(experiment, run, seed)
    if not shipped_file(experiment.profile, run.trained).exists():
        remedy = f"train it: python -m hgrl notebook 03_pretraining {experiment.profile} --run {run.trained}"
        raise InputError(
            f"run {run.name!r} of {experiment.profile}: not trained here, and none ships; {remedy}"
        )
    print(f"{run.name}: nothing trained here yet, so this is the network that ships with the package")
    return shipped_network(experiment, run)


def shipped_network(experiment: Experiment, run: Run) -> Network:
    """The network that ships for a run, on the CPU, in single precision.

    InputError for a missing or damaged file, and for a profile with another network."""
    path = shipped_file(experiment.profile, run.trained)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        network = Network(run.settings.network)
        network.load_state_dict({name: _single(weights) for name, weights in state.items()})
    except FileNotFoundError:
        raise InputError(f"{path}: no such model ships; train the run with `make repro`") from None
    except Exception as error:  # torch and pickle raise a dozen different things on a broken file
        problem = f"damaged, or of another network than the profile's ({' '.join(str(error).split())[:120]})"
        raise InputError(f"{path}: {problem}; restore it with `git checkout`") from None
    return network


def _single(weights: torch.Tensor) -> torch.Tensor:
    return weights.float() if weights.is_floating_point() else weights
