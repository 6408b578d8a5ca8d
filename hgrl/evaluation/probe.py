"""The probe: new segmentation heads on frozen features, or trained end to end (sections 4.2 and 5.1).

All heads of one network learn side by side from the same batches: frozen features are computed once for
all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgrl.core.device import pick_device
from hgrl.core.errors import InputError
from hgrl.core.experiment import Experiment, Run
from hgrl.core.files import write_png
from hgrl.core.labels import VOID
from hgrl.core.settings import ProbeSettings, Settings
from hgrl.data.samples import Samples
from hgrl.data.sources import open_samples
from hgrl.evaluation.batches import crop_batches, whole_image_batches
from hgrl.evaluation.confusions import save_confusions
from hgrl.evaluation.features import Features, NetworkFeatures, equal_sized
from hgrl.evaluation.heads import build_heads, layer_of, layers_read
from hgrl.evaluation.networks import layers_of, load_features, network_of
from hgrl.metrics.segmentation import confusion_matrix, segmentation_scores
from hgrl.sampling.order import mixed_seed

Scores = dict[str, dict[str, Any]]  # head -> `segmentation_scores`
EMBEDDED_AT_ONCE = 16  # images of a scored split
PICTURES = 8  # images of the reported split whose predicted classes notebook 04 shows


def score_run(experiment: Experiment, run: Run, seed: int) -> Scores:
    """Scores of each probe head of a run on the reported split.

    Also writes every image's confusion matrix, and some predictions of the first seed."""
    features, settings = load_features(experiment, run, seed), settings_of(run)
    if run.definition.end_to_end and not isinstance(features, NetworkFeatures):
        reason = f"method {run.method!r} has nothing to train end to end"
        raise InputError(f"params.yaml: run {run.name!r}: {reason}; take end_to_end off")
    trained = features.network if run.definition.end_to_end else None
    heads, val = fit_heads(experiment, run.settings, settings, features, seed, trained)
    confusions = image_confusions(features, heads, val, settings)
    save_confusions(experiment.files.confusions(run.name, seed), confusions)
    if seed == run.settings.seeds[0]:
        for index in range(min(PICTURES, len(val))):
            image, size = val.image(index, settings.short_side), val.mask(index).shape
            predicted = predict(features, heads, image[None], size)[settings.heads[0]]
            write_png(experiment.files.prediction(run.name, index), predicted[0])
    return split_scores(confusions, val.classes)


def settings_of(run: Run) -> ProbeSettings:
    """The probe's settings for a run: only heads on layers that it trained.

    A run that goes on from another's checkpoint, end to end, has the protocol `finetune` instead."""
    probe, own = run.settings.probe, run.settings.finetune
    if run.definition.end_to_end and run.definition.checkpoint_of is not None:
        changed = {
            "heads": (own.head,),
            "end_to_end_iterations": own.iterations,
            "fcn_dilation": own.dilation,
        }
        return probe.model_copy(update=changed | own.model_dump(exclude={"head", "iterations", "dilation"}))
    layers = layers_of(run)
    heads = tuple(head for head in probe.heads if layer_of(head) in layers)
    if not heads:
        reason = f"none reads a layer that method {run.method!r} trains ({', '.join(layers)})"
        raise InputError(f"setting 'probe.heads': {reason}")
    return probe.model_copy(update={"heads": heads})


def score_checkpoint(
    experiment: Experiment,
    settings: Settings,
    probe: ProbeSettings,
    path: Path,
    seed: int,
    complete: bool = True,
) -> Scores:
    """Scores of each head on the frozen network in a checkpoint; complete: whether it must be a run's end."""
    network = network_of(path, settings.network, complete)
    features = NetworkFeatures(network, pick_device(settings.device))
    heads, val = fit_heads(experiment, settings, probe, features, seed)
    return split_scores(image_confusions(features, heads, val, probe), val.classes)


def fit_heads(
    experiment: Experiment,
    settings: Settings,
    probe: ProbeSettings,
    features: Features,
    seed: int,
    trained: nn.Module | None = None,
) -> tuple[nn.ModuleDict, Samples]:
    """Heads trained on `data.probe_train`, and the split `data.probe_val` to score them on."""
    data, root = settings.data, experiment.data_root
    train, val = open_samples(data.probe_train, root), open_samples(data.probe_val, root)
    workers = settings.pretrain.workers if pick_device(settings.device).type == "cuda" else 0
    return train_probe(features, train, probe, seed, trained, workers), val


def train_probe(
    features: Features,
    train: Samples,
    settings: ProbeSettings,
    seed: int,
    trained: nn.Module | None = None,
    workers: int = 0,
    tick: Callable[[int], None] = lambda steps: None,
) -> nn.ModuleDict:
    """SGD with cross entropy; returns trained heads by name: all of `settings.heads`.

    features: frozen, unless `trained` is the module behind them: then it learns with the first head alone
    (end to end), for `end_to_end_iterations`.
    Deliberately not done: no auxiliary loss, no class weights, no multi-scale testing."""
    iterations = settings.iterations if trained is None else settings.end_to_end_iterations
    torch.manual_seed(mixed_seed(seed, 2))
    names = settings.heads if trained is None else settings.heads[:1]
    heads = build_heads(features.channels, len(train.classes), settings, names).to(features.device)
    layers = layers_read(names)
    parameters = [*heads.parameters(), *(trained.parameters() if trained is not None else [])]
    options = {"momentum": settings.momentum, "weight_decay": settings.weight_decay}
    optimizer = torch.optim.SGD(parameters, lr=settings.lr, **options)
    milestones = [round(milestone * iterations) for milestone in settings.milestones]
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.1)
    if trained is not None:
        trained.train()
    if trained is None and not settings.crops:
        batches = whole_image_batches(features, layers, train, settings, seed)
    else:
        batches = crop_batches(features, layers, train, settings, seed, workers, frozen=trained is None)
    for _, (maps, masks) in zip(range(iterations), batches, strict=False):  # batches have no end
        loss = sum(_cross_entropy(head(maps[layer_of(name)]), masks) for name, head in heads.items())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        scheduler.step()
        tick(1)
    if trained is not None:
        trained.eval()
    return heads.eval()


def _cross_entropy(logits: Tensor, masks: Tensor) -> Tensor:
    logits = F.interpolate(logits.float(), size=masks.shape[-2:], mode="bilinear", align_corners=False)
    scored = (masks != VOID).sum().clamp_min(1)  # a batch of void alone gives 0, not NaN
    return F.cross_entropy(logits, masks.long(), ignore_index=VOID, reduction="sum") / scored


def image_confusions(
    features: Features, heads: nn.ModuleDict, val: Samples, settings: ProbeSettings
) -> dict[str, np.ndarray]:
    """A confusion matrix per image: {head: (N, C, C) int64}, N images in the split's order."""
    classes = len(val.classes)
    confusions: dict[str, list[np.ndarray]] = {name: [] for name in heads}
    pairs = ((val.image(index, settings.short_side), val.mask(index)) for index in range(len(val)))
    for images, masks in equal_sized(pairs, EMBEDDED_AT_ONCE):
        for name, predicted in predict(features, heads, images, masks.shape[1:]).items():
            seen = zip(masks, predicted, strict=True)
            confusions[name] += [confusion_matrix(mask, found, classes) for mask, found in seen]
    shape = (-1, classes, classes)
    return {name: np.array(matrices, np.int64).reshape(shape) for name, matrices in confusions.items()}


def split_scores(confusions: dict[str, np.ndarray], classes: tuple[str, ...]) -> Scores:
    """Scores of a whole split from {head: (N, C, C)}: of the matrices' sum, not a mean over images."""
    return {name: segmentation_scores(matrices.sum(0), classes) for name, matrices in confusions.items()}


@torch.no_grad()
def predict(
    features: Features, heads: nn.ModuleDict, images: np.ndarray, size: tuple[int, int]
) -> dict[str, np.ndarray]:
    """Each head's class maps, (B, H, W) uint8 with (H, W) = `size`, for (B, h, w, 3) uint8 images.

    Logits are enlarged bilinearly to `size` before the largest is taken."""
    layers, predicted = layers_read(heads), {}
    seen = torch.from_numpy(images).permute(0, 3, 1, 2).to(features.device)
    maps = dict(zip(layers, features(seen, layers), strict=True))
    for name, head in heads.items():
        logits = F.interpolate(head(maps[layer_of(name)]), size=size, mode="bilinear", align_corners=False)
        predicted[name] = logits.argmax(1).to(torch.uint8).cpu().numpy()
    return predicted
