"""Training the edge network on human boundaries: images, crops, first weights.

Not done: HED's SGD with a rate for each layer (AdamW with one rate and a cosine serves a trunk from ImageNet
and one from scratch), its 16 rotation angles (the square's 8 symmetries need no interpolation)."""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.optim import AdamW

from hgrl.core.checkpoint import Checkpoint
from hgrl.core.errors import InputError
from hgrl.core.settings import HedSettings
from hgrl.data.sets.bsds import ContourSamples
from hgrl.grouping.edge_training import IGNORED, Batch, EdgeTraining, Picture, consensus, data_identity
from hgrl.grouping.hed.network import HED, KIND

VGG16 = 64  # channels of its first convolution


def shrunk(image: np.ndarray, boundaries: Sequence[np.ndarray], factor: int) -> tuple[np.ndarray, list]:
    """Image and boundary maps at 1/factor of their size: means of blocks, and any boundary in a block."""
    if factor == 1:
        return image, list(boundaries)
    if (side := min(image.shape[:2])) < factor:
        raise InputError(
            f"setting 'hed.shrink': {factor} is more than an image's side of {side} px; lower it"
        )
    height, width = (side // factor for side in image.shape[:2])
    image, *maps = (array[: height * factor, : width * factor] for array in (image, *boundaries))
    blocks = (drawn.reshape(height, factor, width, factor) for drawn in maps)
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return small, [block.any(axis=(1, 3)) for block in blocks]


def read_pictures(samples: Sequence[ContourSamples], settings: HedSettings) -> list[Picture]:
    """Every image at each size of `settings.shrink`, with its target, in memory (300 BSDS images: 0.2 GB)."""
    pictures = []
    for split in samples:
        for index in range(len(split)):
            image, boundaries = split.image(index), split.boundaries(index)
            for factor in settings.shrink:
                small, drawn = shrunk(image, boundaries, factor)
                pictures.append((small, consensus(np.mean(drawn, axis=0), settings.consensus)))
    if not pictures:
        remedy = "check the splits, or `data.scenes.contours`"
        raise InputError(f"train-hed: no images with human boundaries; {remedy}")
    return pictures


def draw_batch(pictures: list[Picture], settings: HedSettings, step: int) -> Batch:
    """Crops for one step, (B, 3, S, S) uint8 and targets (B, S, S) uint8, by seed and step alone."""
    random = np.random.default_rng((settings.seed, step))
    chosen = random.integers(len(pictures), size=settings.batch)
    crops = [random_crop(*pictures[k], settings.crop_size, random) for k in chosen]
    images, targets = (torch.from_numpy(np.stack(parts)) for parts in zip(*crops, strict=True))
    return images.permute(0, 3, 1, 2), targets


def random_crop(image: np.ndarray, target: np.ndarray, size: int, random: np.random.Generator) -> Picture:
    """A square of `size` at a random place of both, turned by a multiple of 90 degrees and flipped at random.

    A smaller image is reflected up to the size; what is reflected is not scored."""
    top, left = (int(random.integers(max(side - size, 0) + 1)) for side in target.shape)
    image, target = (array[top : top + size, left : left + size] for array in (image, target))
    more = [(0, size - side) for side in target.shape]
    image = np.pad(image, (*more, (0, 0)), mode="symmetric")
    target = np.pad(target, more, constant_values=IGNORED)
    turns, flip = int(random.integers(4)), bool(random.integers(2))
    image, target = np.rot90(image, turns), np.rot90(target, turns)
    return (image[:, ::-1], target[:, ::-1]) if flip else (image, target)


def trunk_origin(settings: HedSettings) -> str:
    """The trunk's first weights: "from scratch", or the file and its sha256. InputError if it is missing."""
    if settings.imagenet_weights is None:
        return "from scratch"
    path = Path(settings.imagenet_weights)
    if not path.is_file():
        remedy = "put torchvision's vgg16 weights there, or set hed.imagenet_weights to null for none"
        raise InputError(f"{path}: no such file; {remedy}")
    return f"ImageNet weights {path.name} (sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]})"


def initial_network(settings: HedSettings) -> tuple[HED, bool]:
    """A network, and whether it normalises batches: as the ImageNet weights do; from scratch it does."""
    torch.manual_seed(settings.seed)
    if settings.imagenet_weights is None:
        return HED(settings.width, batch_norm=True), True
    path = Path(settings.imagenet_weights)
    if settings.width != VGG16:
        reason = f"{path.name} has {VGG16} channels in its first convolution (got {settings.width})"
        raise InputError(f"setting 'hed.width': {reason}; set it to {VGG16}")
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        trunk = {k.removeprefix("features."): v for k, v in weights.items() if k.startswith("features.")}
        batch_norm = "1.running_mean" in trunk
        model = HED(settings.width, batch_norm)
        model.features.load_state_dict(trunk)
    except Exception as error:  # torch raises a dozen different things on a broken or foreign file
        what = f"not torchvision's vgg16 or vgg16_bn weights ({' '.join(str(error).split())[:120]})"
        raise InputError(f"{path}: {what}; fetch the file again") from None
    return model, batch_norm


def hed_identity(
    samples: Sequence[ContourSamples], settings: HedSettings, batch_norm: bool, origin: str = ""
) -> dict[str, Any]:
    """What decides the weights; `origin` is the code's fingerprint. Training of another is not continued."""
    content = settings.model_dump(mode="json", exclude={"imagenet_weights", "sources", "checkpoint_minutes"})
    own = {"kind": KIND, "trunk": trunk_origin(settings), "batch_norm": batch_norm}
    return own | data_identity(samples) | {"origin": origin, "settings": content}


def train_hed(
    samples: list[ContourSamples], settings: HedSettings, out: Path, device: torch.device, origin: str = ""
) -> Checkpoint:
    """Train on the splits `samples`; the weights go to `out`. See `EdgeTraining.run`.

    InputError also for missing ImageNet weights, before any image is read."""
    trunk_origin(settings)
    model, batch_norm = initial_network(settings)
    training = EdgeTraining(
        identity=hed_identity(samples, settings, batch_norm, origin),
        settings=settings,
        model=model,
        optimizer=AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay),
        rate=lambda step: learning_rate(settings, step),
        read=lambda: read_pictures(samples, settings),
        draw=lambda pictures, step: draw_batch(pictures, settings, step),
    )
    return training.run(Path(out), device)


def learning_rate(settings: HedSettings, step: int) -> float:
    """A linear warm-up over the first twentieth, then a cosine to zero."""
    warmup = settings.iterations // 20
    cosine = 0.5 * (1 + math.cos(math.pi * step / settings.iterations))
    return settings.lr * min((step + 1) / (warmup + 1), cosine)
