"""The trackers that read no features, by the method of their run."""

from collections.abc import Callable

from torch import nn

from hgrl.core.checkpoint import load_complete
from hgrl.core.device import pick_device
from hgrl.core.errors import InputError
from hgrl.core.experiment import Experiment, Run
from hgrl.evaluation.networks import unavailable, weights_file
from hgrl.evaluation.trackers.motion import Tracker, identity, motion_tracker, optical_flow, warped_by
from hgrl.evaluation.trackers.raft import load_raft, raft_flow
from hgrl.evaluation.trackers.sift_flow import sift_flow
from hgrl.pretraining.methods import Method, build_method


def load_model(experiment: Experiment, run: Run, seed: int) -> Method:
    """The model of a method without `layers`, from its checkpoint, on the device of the run's settings.

    InputError for a checkpoint that is missing, damaged, of another model, or not complete."""
    path, model = weights_file(experiment, run, seed), build_method(run.method, run.settings)
    saved = load_complete(path)
    try:
        model.load_state_dict(saved.method)
    except RuntimeError:
        reason = f"holds another model than 'methods.{run.method}' of the profile describes"
        raise InputError(f"{path}: {reason}; delete it and run `dvc repro`") from None
    return model.to(pick_device(run.settings.device)).eval()


Loaded = tuple[Tracker, int]  # and the number of its model's parameters


def _size(model: nn.Module) -> int:
    return sum(value.numel() for value in model.parameters())


def _flownetc(experiment: Experiment, run: Run, seed: int) -> Loaded:
    model = load_model(experiment, run, seed)
    return motion_tracker(warped_by(model.flow)), _size(model)


def _mgpff(experiment: Experiment, run: Run, seed: int) -> Loaded:
    model = load_model(experiment, run, seed)
    return motion_tracker(model.warp), _size(model)


def _raft(experiment: Experiment, run: Run, seed: int) -> Loaded:
    path = weights_file(experiment, run)
    if reason := unavailable(experiment, run):
        remedy = "save torchvision's raft_small or raft_large weights there (from pytorch.org)"
        raise InputError(f"{path}: run {run.name!r}: {reason}; {remedy}")
    model = load_raft(path)
    return motion_tracker(warped_by(raft_flow(model, pick_device(run.settings.device)))), _size(model)


TRACKERS: dict[str, Callable[[Experiment, Run, int], Loaded]] = {
    "identity": lambda experiment, run, seed: (identity, 0),
    "flow": lambda experiment, run, seed: (optical_flow, 0),
    "sift-flow": lambda experiment, run, seed: (motion_tracker(warped_by(sift_flow)), 0),
    "flownetc": _flownetc,
    "mgpff": _mgpff,
    "raft": _raft,
}
