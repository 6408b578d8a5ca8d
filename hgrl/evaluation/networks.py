"""The network that a run is evaluated on, or the baseline that stands for one."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from hgrl.core import paths
from hgrl.core.checkpoint import load_checkpoint, load_complete
from hgrl.core.device import pick_device
from hgrl.core.errors import InputError
from hgrl.core.experiment import READ_WEIGHTS, Experiment, Run
from hgrl.core.settings import NetworkSettings
from hgrl.evaluation.features import BASELINES, BaselineFeatures, Features, NetworkFeatures
from hgrl.evaluation.weights import FORMATS, authors_network, load_weights
from hgrl.pretraining.methods import REGISTRY
from hgrl.pretraining.network import LAYERS, STRIDES, Network
from hgrl.sampling.order import mixed_seed

UNTRAINED = "random"  # the method of networks that stay as they were initialised
PRETRAINED = "imagenet"  # the method of torchvision's supervised ResNet-50, from the reader's own file
NO_WEIGHTS = "weights file missing"
OTHER_NETWORK = "weights are of another network"


def load_features(
    experiment: Experiment, run: Run, seed: int, load: Callable[..., nn.Module] | None = None
) -> Features:
    """The baseline that a run names, or its network with this seed, on the device of its settings.

    load: what gives the network; `load_network` unless said otherwise."""
    if run.method in BASELINES:
        return BaselineFeatures(run.method)
    grey_input = run.method in REGISTRY and REGISTRY[run.method].grey_input
    network = (load or load_network)(experiment, run, seed)
    return NetworkFeatures(network, pick_device(run.settings.device), grey_input)


def load_network(experiment: Experiment, run: Run, seed: int) -> nn.Module:
    """The network of a run and seed, on the CPU.

    From its checkpoint, or an authors' file; for `imagenet` torchvision's backbone, the rest as initialised;
    for `random` all so.
    InputError for a checkpoint that is missing, damaged, of another network, or not complete."""
    if run.method in FORMATS and run.method != PRETRAINED:
        return _authors_network(experiment, run)
    if run.method not in (PRETRAINED, UNTRAINED):
        return network_of(weights_file(experiment, run, seed), run.settings.network)
    torch.manual_seed(mixed_seed(seed))
    network = Network(run.settings.network)
    if run.method == PRETRAINED:
        _load_imagenet(network, experiment, run)
    return network


def network_of(path: Path, settings: NetworkSettings, complete: bool = True) -> Network:
    """The network in a checkpoint; InputError if it has another shape, or is not `complete` but has to be."""
    saved, network = (load_complete if complete else load_checkpoint)(path), Network(settings)
    prefix, state = "network.", saved.method
    own = {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}
    try:
        network.load_state_dict(own)
    except RuntimeError:
        reason = "holds another network than the profile's 'network' section describes"
        raise InputError(f"{path}: {reason}; delete it and run `dvc repro`") from None
    return network


def _load_imagenet(network: Network, experiment: Experiment, run: Run) -> None:
    path = weights_file(experiment, run)
    if reason := unavailable(experiment, run):
        download = "save torchvision's resnet50 weights there (resnet50-0676ba61.pth on pytorch.org)"
        remedy = download if reason == NO_WEIGHTS else "take the run off this profile"
        raise InputError(f"{path}: run {run.name!r}: {reason}; {remedy}")
    load_weights(network.backbone, path, PRETRAINED)


def _authors_network(experiment: Experiment, run: Run) -> nn.Module:
    """The network of the authors' file, whatever the profile's own is."""
    path = weights_file(experiment, run)
    if reason := unavailable(experiment, run):
        remedy = f"save {FORMATS[run.method].what} weights there, as the authors publish them"
        raise InputError(f"{path}: run {run.name!r}: {reason}; {remedy}")
    return authors_network(path, run.method)


def weights_file(experiment: Experiment, run: Run, seed: int = 0) -> Path:
    """The file whose content decides a run's features; for runs that learn nothing it does not exist."""
    if run.method in READ_WEIGHTS:
        return paths.data_root() / run.definition.weights
    return experiment.files.checkpoint(run.trained, seed)


def unavailable(experiment: Experiment, run: Run) -> str | None:
    """Why a run cannot be had in this profile, in a few words for its table row; None where it can."""
    if (reason := experiment.left_out(run.name)) or run.method not in READ_WEIGHTS:
        return reason
    if run.method == PRETRAINED and (run.settings.network.backbone, run.settings.network.width) != (
        "resnet50",
        64,
    ):
        return OTHER_NETWORK
    return None if weights_file(experiment, run).is_file() else NO_WEIGHTS


def layers_of(run: Run) -> tuple[str, ...]:
    """The layers that evaluations read: those that a run's method trained; all if it trains none."""
    trained = REGISTRY[run.method].layers if run.method in REGISTRY else LAYERS
    trained = ("backbone",) if run.method in FORMATS else trained
    return tuple(layer for layer in STRIDES if layer in trained or layer == "stages")
