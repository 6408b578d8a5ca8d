"""Training PiDiNet from scratch on human boundaries: turned, flipped, resized and jittered crops.

Not done: the authors' batch of 24 single images (crops come in batches), their rate in steps (a cosine), the
L2 penalty of 1e-4, too small to be felt beside a loss summed over the pixels, and their further images of
PASCAL."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.optim import Adam

from hgrl.core.checkpoint import Checkpoint
from hgrl.core.errors import InputError
from hgrl.core.settings import PidinetSettings
from hgrl.data.sets.bsds import ContourSamples
from hgrl.grouping.edge_training import Batch, EdgeTraining, Picture, consensus, data_identity
from hgrl.grouping.pidinet.network import KIND, PiDiNet

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue: ITU-R BT.601


def read_pictures(samples: Sequence[ContourSamples]) -> list[Picture]:
    """Every image, with the share of its annotators (H, W) float32 that drew a boundary at each pixel."""
    pictures = [
        (split.image(index), np.mean(split.boundaries(index), axis=0, dtype=np.float32))
        for split in samples
        for index in range(len(split))
    ]
    if not pictures:
        raise InputError("train-pidinet: no images with human boundaries; check the splits")
    return pictures


def draw_batch(pictures: list[Picture], settings: PidinetSettings, step: int) -> Batch:
    """Crops for one step, (B, 3, S, S) uint8 and targets (B, S, S) uint8, by seed and step alone."""
    random = np.random.default_rng((settings.seed, step))
    crops = []
    for index in random.integers(len(pictures), size=settings.batch):
        image, share = random_crop(*pictures[index], settings, random)
        crops.append((jittered(image, settings.jitter, random), consensus(share, settings.consensus)))
    images, targets = (torch.from_numpy(np.stack(parts)) for parts in zip(*crops, strict=True))
    return images.permute(0, 3, 1, 2), targets


def random_crop(
    image: np.ndarray, share: np.ndarray, settings: PidinetSettings, random: np.random.Generator
) -> Picture:
    """A square of both, `crop_size` px, at a random place of the resized image, turned and flipped there.

    Where the square reaches beyond the image, that is reflected, and the share is below 0."""
    factor = math.exp(random.uniform(*np.log(settings.resized)))
    size = [max(1, round(side * factor)) for side in share.shape[::-1]]
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    image, share = (cv2.resize(array, size, interpolation=how) for array in (image, share))
    side, spare = settings.crop_size, [length - settings.crop_size for length in size]
    corner = [int(random.integers(more + 1)) if more > 0 else more // 2 for more in spare]  # left, top
    angle = 2 * math.pi * random.integers(settings.angles) / settings.angles
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    turn = turn.round(12)  # a quarter turn's 6e-17 would blur
    turn[:, 0] *= random.choice([-1, 1])
    middle = np.full(2, (side - 1) / 2)  # of the crop: a quarter turn about it moves pixels onto pixels
    matrix = np.column_stack([turn, np.array(corner) + middle - turn @ middle])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP  # the matrix leads from the crop to the image
    turned = cv2.warpAffine(image, matrix, (side, side), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    return turned, cv2.warpAffine(share, matrix, (side, side), flags=flags, borderValue=-1)


def jittered(image: np.ndarray, strength: float, random: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8 with its saturation, contrast and brightness changed by factors of 1 +- `strength`."""
    saturation, contrast, brightness = (1 + random.uniform(-strength, strength, 3)).astype(np.float32)
    pixels = image.astype(np.float32)
    grey = (pixels @ LUMA)[..., None]
    mixed = grey + saturation * (pixels - grey)
    mean = grey.mean()
    return np.clip(np.rint(brightness * (mean + contrast * (mixed - mean))), 0, 255).astype(np.uint8)


def pidinet_identity(
    samples: Sequence[ContourSamples], settings: PidinetSettings, origin: str = ""
) -> dict[str, Any]:
    """What decides the weights; `origin` is the code's fingerprint. Training of another is not continued."""
    content = settings.model_dump(mode="json", exclude={"sources", "checkpoint_minutes"})
    return {"kind": KIND, "trunk": "from scratch", "origin": origin, "settings": content} | data_identity(
        samples
    )


def train_pidinet(
    samples: list[ContourSamples],
    settings: PidinetSettings,
    out: Path,
    device: torch.device,
    origin: str = "",
) -> Checkpoint:
    """Train on the splits `samples`; the averaged weights go to `out`. See `EdgeTraining.run`."""
    torch.manual_seed(settings.seed)
    model, total = PiDiNet(settings.size), settings.iterations
    training = EdgeTraining(
        identity=pidinet_identity(samples, settings, origin),
        settings=settings,
        model=model,
        optimizer=Adam(model.parameters(), lr=settings.lr),
        rate=lambda step: settings.lr * 0.5 * (1 + math.cos(math.pi * step / total)),
        read=lambda: read_pictures(samples),
        draw=lambda pictures, step: draw_batch(pictures, settings, step),
        none_weight=settings.none_weight,
        average=settings.average,
    )
    return training.run(Path(out), device)
