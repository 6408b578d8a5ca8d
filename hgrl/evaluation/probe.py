"""The probe: new segmentation heads on frozen features, or trained end to end (sections 4.2 and 5.1)."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgrl.core import paths
from hgrl.core.device import pick_device
from hgrl.core.errors import InputError
from hgrl.core.experiment import Experiment, Run
from hgrl.core.files import write_bytes, write_png
from hgrl.core.labels import VOID
from hgrl.core.settings import EndToEndSettings, ProbeSettings, Settings
from hgrl.data.samples import Samples
from hgrl.data.sources import open_labelled
from hgrl.evaluation.batches import crop_batches, whole_image_batches
from hgrl.evaluation.features import Features, NetworkFeatures, equal_sized
from hgrl.evaluation.heads import build_head, layer_of, layers_read
from hgrl.evaluation.networks import layers_of, load_features, network_of
from hgrl.metrics.segmentation import confusion_matrix, segmentation_scores
from hgrl.sampling.order import mixed_seed

Scores = dict[str, dict[str, Any]]  # head -> `segmentation_scores`
ByHead = dict[str, np.ndarray]  # head -> confusion matrices or class maps
EMBEDDED_AT_ONCE = 16  # images of a scored split
PICTURES = 8  # images of the reported split whose predictions notebook 04 shows


def score_run(experiment: Experiment, run: Run, seed: int, labelled: str) -> Scores:
    """Scores of a run's heads on a labelled set; writes its images' confusion matrices, and the first seed's
    predictions."""
    features, settings, files = load_features(experiment, run, seed), settings_of(run), experiment.files
    end_to_end, probe = run.definition.end_to_end, settings.probe
    if end_to_end and not isinstance(features, NetworkFeatures):
        problem = f"run {run.name!r}: method {run.method!r} has nothing to train end to end"
        raise InputError(f"{paths.PARAMS}: {problem}; take end_to_end off")
    train, val = open_labelled(settings.data.labelled[labelled], experiment.data_root)
    heads = train_probe(features, train, probe, seed, end_to_end, _loaders(settings))
    confusions = image_confusions(features, heads, val, probe)
    save_confusions(files.confusions(run.name, seed, labelled), confusions)
    for index in pictured(len(val)) if seed == settings.seeds[0] else ():
        image, size = val.image(index, probe.short_side), val.mask(index).shape
        predicted = predict(features, heads, image[None], size)[probe.headline]
        write_png(files.prediction(run.name, index, labelled), predicted[0])
    return split_scores(confusions, val.classes)


def pictured(images: int) -> list[int]:
    """The images of a reported split whose predictions are kept: spread, as it may lie class by class."""
    return np.linspace(0, images - 1, min(PICTURES, images)).round().astype(int).tolist()


def settings_of(run: Run) -> Settings:
    """A run's settings, with its own section `probe`: heads on layers that it trained, and no others.

    End to end there is one head; a run that goes on from another's checkpoint has the protocol `finetune`."""
    probe, own, layers = run.settings.probe, run.settings.finetune, layers_of(run)
    if run.definition.end_to_end and run.definition.checkpoint_of is not None:
        changed = own.model_dump(exclude={"head", "iterations", "dilation"}) | {"heads": (own.head,)}
        protocol = EndToEndSettings(lr=own.lr, iterations=own.iterations)
        changed |= {"end_to_end": protocol, "fcn_dilation": own.dilation}
    elif run.definition.end_to_end:
        changed = {"heads": (probe.end_to_end.head or probe.headline,)}
    else:
        changed = {"heads": tuple(head for head in probe.heads if layer_of(head) in layers)}
        if not changed["heads"]:
            reason = f"none reads a layer that method {run.method!r} trains ({', '.join(layers)})"
            raise InputError(f"setting 'probe.heads': {reason}")
    return run.settings.model_copy(update={"probe": probe.model_copy(update=changed)})


def score_checkpoint(root: Path, settings: Settings, path: Path, seed: int, complete: bool = True) -> Scores:
    """Scores of each head on the frozen network in a checkpoint, on the primary labelled set.

    complete: whether it must be a run's end."""
    features = NetworkFeatures(network_of(path, settings.network, complete), pick_device(settings.device))
    train, val = open_labelled(settings.data.primary, root)
    heads = train_probe(features, train, settings.probe, seed, workers=_loaders(settings))
    return split_scores(image_confusions(features, heads, val, settings.probe), val.classes)


def _loaders(settings: Settings) -> int:
    """Processes that read crops: the training's on a GPU, none beside other evaluations on a CPU."""
    return settings.pretrain.workers if pick_device(settings.device).type == "cuda" else 0


def train_probe(
    features: Features,
    train: Samples,
    settings: ProbeSettings,
    seed: int,
    end_to_end: bool = False,
    workers: int = 0,
) -> nn.ModuleDict:
    """Cross entropy; returns trained heads by name: all of `settings.heads`, from the same batches.

    By SGD, pixels weighed as `class_weights` says; end_to_end: with the network, and as
    `settings.end_to_end` has it.
    Deliberately not done: auxiliary loss, multi-scale testing."""
    torch.manual_seed(mixed_seed(seed, 2))
    frozen = EndToEndSettings(lr=settings.lr, iterations=settings.iterations, schedule=settings.schedule)
    own = settings.end_to_end if end_to_end else frozen
    names = [own.head or settings.headline] if end_to_end else settings.heads
    built = {name: build_head(name, features.channels, len(train.classes), settings) for name in names}
    heads = nn.ModuleDict(built).to(features.device)
    learning = nn.ModuleList([heads, *([features.network] if end_to_end else [])]).train()
    optimizer, scheduler = _optimizer(learning, own, settings)
    weights = (
        class_weights(train, settings.class_balance, features.device) if settings.class_balance else None
    )
    source, in_crops = (features, layers_read(names), train, settings, seed), end_to_end or settings.crops
    batches = crop_batches(*source, workers) if in_crops else whole_image_batches(*source)
    for _, (maps, masks) in zip(range(own.iterations), batches, strict=False):  # batches have no end
        loss = sum(_cross_entropy(head(maps[layer_of(name)]), masks, weights) for name, head in heads.items())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        scheduler.step()
    learning.eval()
    return heads


def _optimizer(
    learning: nn.Module, own: EndToEndSettings, settings: ProbeSettings
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    if own.optimizer == "adam":
        optimizer = torch.optim.Adam(learning.parameters(), lr=own.lr)
    else:
        options = {"momentum": settings.momentum, "weight_decay": settings.weight_decay}
        optimizer = torch.optim.SGD(learning.parameters(), lr=own.lr, **options)
    if own.schedule == "cosine":
        return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, own.iterations)
    milestones = [round(milestone * own.iterations) for milestone in settings.milestones]
    return optimizer, torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.1)


def class_weights(train: Samples, balance: float, device: torch.device) -> Tensor:
    """What a pixel of each class counts in the loss, (C,) float32: its frequency in the masks to the power of
    minus `balance`, scaled to a mean of 1 over all pixels. Void is not counted; a class that no mask shows
    weighs 0."""
    classes = len(train.classes)
    counts = sum(
        np.bincount(train.mask(index).ravel(), minlength=256)[:classes] for index in range(len(train))
    )
    frequency = torch.from_numpy(np.asarray(counts) / max(1, np.sum(counts)))
    weights = torch.where(frequency > 0, frequency**-balance, 0.0)
    return (weights / (frequency * weights).sum().clamp_min(1e-12)).float().to(device)


def _cross_entropy(logits: Tensor, masks: Tensor, weights: Tensor | None = None) -> Tensor:
    logits = F.interpolate(logits.float(), size=masks.shape[-2:], mode="bilinear", align_corners=False)
    scored = (masks != VOID).sum().clamp_min(1)  # a batch of void alone gives 0, not NaN
    return F.cross_entropy(logits, masks.long(), weights, ignore_index=VOID, reduction="sum") / scored


def image_confusions(features: Features, heads: nn.ModuleDict, val: Samples, own: ProbeSettings) -> ByHead:
    """A confusion matrix per image: {head: (N, C, C) int64}, N images in the split's order."""
    classes, confusions = len(val.classes), {name: [] for name in heads}
    pairs = ((val.image(index, own.short_side), val.mask(index)) for index in range(len(val)))
    for images, masks in equal_sized(pairs, EMBEDDED_AT_ONCE):
        for name, predicted in predict(features, heads, images, masks.shape[1:]).items():
            seen = zip(masks, predicted, strict=True)
            confusions[name] += [confusion_matrix(mask, found, classes) for mask, found in seen]
    shape = (-1, classes, classes)
    return {name: np.array(matrices, np.int64).reshape(shape) for name, matrices in confusions.items()}


def save_confusions(path: Path, confusions: ByHead) -> None:
    """{head: (N, C, C) counts}, compressed, in the smallest unsigned type; equal counts give equal bytes."""
    buffer = io.BytesIO()
    smallest = {head: np.min_scalar_type(counts.max(initial=0)) for head, counts in confusions.items()}
    np.savez_compressed(buffer, **{head: confusions[head].astype(kind) for head, kind in smallest.items()})
    write_bytes(path, buffer.getvalue())


def publish_confusions(experiment: Experiment, run: Run) -> None:
    """Put the matrices on the primary set beside the run's scores: {head: (S, N, C, C)}, seeds ascending."""
    primary, files = next(iter(run.settings.data.labelled)), experiment.files
    by_seed = [files.confusions(run.name, seed, primary) for seed in sorted(run.settings.seeds)]
    heads = settings_of(run).probe.heads
    stacked = {head: np.stack([load_confusions(path, head) for path in by_seed]) for head in heads}
    save_confusions(files.all_confusions(run.name), stacked)


def load_confusions(path: Path, head: str) -> np.ndarray:
    """(N, C, C) int64 of one head, or (S, N, C, C) of all seeds: N images in the split's order; row = truth,
    column = prediction.

    Raises InputError for a missing or damaged file, and for a head that was not probed."""
    try:
        with np.load(path, allow_pickle=False) as heads:
            if head in heads:
                return heads[head].astype(np.int64)
            known = ", ".join(heads)
    except FileNotFoundError:
        raise InputError(f"{path}: no confusion matrices; run `dvc repro` to probe the run again") from None
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        reason = f"damaged ({' '.join(str(error).split())[:80]})"
        raise InputError(f"{path}: {reason}; delete it and run `dvc repro`") from None
    raise InputError(f"{path}: no head {head!r} among the probed ones ({known})")


def split_scores(confusions: ByHead, classes: tuple[str, ...]) -> Scores:
    """Scores of a whole split from {head: (N, C, C)}: of the matrices' sum, not a mean over images."""
    return {name: segmentation_scores(matrices.sum(0), classes) for name, matrices in confusions.items()}


@torch.no_grad()
def predict(features: Features, heads: nn.ModuleDict, images: np.ndarray, size: tuple[int, int]) -> ByHead:
    """Each head's class maps, (B, H, W) uint8 with (H, W) = `size`, for (B, h, w, 3) uint8 images.

    The largest of the logits, after these are enlarged bilinearly."""
    layers, predicted = layers_read(heads), {}
    seen = torch.from_numpy(images).permute(0, 3, 1, 2).to(features.device)
    maps = dict(zip(layers, features(seen, layers), strict=True))
    for name, head in heads.items():
        logits = F.interpolate(head(maps[layer_of(name)]), size=size, mode="bilinear", align_corners=False)
        ids = logits.max(1).indices  # five to nine times as fast as argmax across channels on a CPU
        predicted[name] = ids.to(torch.uint8).cpu().numpy()
    return predicted
