"""Training the edge network on human boundaries: consensus of the annotators, crops, one resumable loop.

Not done: HED's SGD with a rate for each layer (AdamW with one rate and a cosine serves a trunk from ImageNet
and one from scratch), its 16 rotation angles (the square's 8 symmetries need no interpolation)."""

import hashlib
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.optim import AdamW

from hgrl.core.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from hgrl.core.errors import InputError
from hgrl.core.progress import bar
from hgrl.core.settings import HedSettings
from hgrl.data.normalise import normalise
from hgrl.data.sets.bsds import ContourSamples
from hgrl.grouping.hed.network import HED, KIND, deep_loss

EDGE, NONE, IGNORED = 1, 0, 255
LOG_EVERY = 10  # steps between two looks at the loss: a look waits for the device
VGG16 = 64  # channels of its first convolution
Batch = tuple[Tensor, Tensor]
Picture = tuple[np.ndarray, np.ndarray]  # image (H, W, 3) uint8 RGB, target (H, W) uint8


def consensus(boundaries: Sequence[np.ndarray], least: float) -> np.ndarray:
    """Boundary maps (H, W) bool -> target (H, W) uint8: 1 edge, 0 where nobody drew, 255 not scored.

    An edge needs the share `least` of them; fewer are not scored, as by HED's followers (Liu et al., "Richer
    convolutional features", CVPR 2017)."""
    share = np.mean(boundaries, axis=0)
    return np.where(share >= least, EDGE, np.where(share > 0, IGNORED, NONE)).astype(np.uint8)


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
                pictures.append((small, consensus(drawn, settings.consensus)))
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
    each = (pair for split in samples for pair in zip(split.names, split.ground_truths, strict=True))
    truths = [(name, path.stat().st_size if path.exists() else None) for name, path in each]
    own = {"kind": KIND, "trunk": trunk_origin(settings), "batch_norm": batch_norm, "images": len(truths)}
    data = hashlib.sha256(repr(truths).encode()).hexdigest()[:16]
    return own | {"data": data, "origin": origin, "settings": content}


def train_hed(
    samples: list[ContourSamples], settings: HedSettings, out: Path, device: torch.device, origin: str = ""
) -> Checkpoint:
    """Train the edge network on the splits `samples`; write its weights, with settings and origin, to `out`.

    A half-trained `out` is continued (to the bit on a CPU), a complete one returned. InputError for an `out`
    of other settings or data, for missing ImageNet weights or ground truth, and for a loss or weights that
    are not finite (the last good file stays)."""
    trunk_origin(settings)  # reports a missing file before the images are read
    out, (model, batch_norm) = Path(out), initial_network(settings)
    identity, step, losses = hed_identity(samples, settings, batch_norm, origin), 0, []
    model = model.to(device, memory_format=torch.channels_last).train()
    optimizer = AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    if out.exists():
        saved = load_checkpoint(out)
        saved.require(identity, out)
        if saved.complete:
            return saved
        model.load_state_dict(saved.method)
        optimizer.load_state_dict(saved.optimizer)
        step, losses = saved.step, saved.losses.tolist()

    def checkpoint() -> Checkpoint:
        state = optimizer.state_dict() if step < settings.iterations else {}  # of twice the weights' size
        weights, seen = model.state_dict(), torch.tensor(losses)
        return Checkpoint(identity, step, settings.iterations, weights, state, {}, seen)

    pictures, written, unread = read_pictures(samples, settings), time.monotonic(), []
    with bar(desc="training the edge network", total=settings.iterations, initial=step) as progress:
        while step < settings.iterations:
            batch = draw_batch(pictures, settings, step)
            unread.append(_train_step(model, optimizer, batch, settings, step, device))
            step += 1
            progress.update()
            if len(unread) == LOG_EVERY or step == settings.iterations:
                losses += torch.stack(unread).tolist()
                _check_finite(model, losses, step, settings.iterations, out)
                unread = []
                is_due = time.monotonic() - written > 60 * settings.checkpoint_minutes
                if is_due and step < settings.iterations:
                    save_checkpoint(out, checkpoint())
                    written = time.monotonic()
    save_checkpoint(out, checkpoint())
    return checkpoint()


def learning_rate(settings: HedSettings, step: int) -> float:
    """A linear warm-up over the first twentieth, then a cosine to zero."""
    warmup = settings.iterations // 20
    cosine = 0.5 * (1 + math.cos(math.pi * step / settings.iterations))
    return settings.lr * min((step + 1) / (warmup + 1), cosine)


def _train_step(
    model: HED, optimizer: AdamW, batch: Batch, settings: HedSettings, step: int, device: torch.device
) -> Tensor:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(settings, step)
    images, target = (part.to(device) for part in batch)
    images = normalise(images).contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
        answers = model(images)
    loss = deep_loss(answers, target)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach()


def _check_finite(model: HED, losses: list[float], step: int, total: int, out: Path) -> None:
    """InputError for a loss that is not finite, and at the end for weights: a last gradient may not be."""
    bad = next((k for k, loss in enumerate(losses) if not math.isfinite(loss)), None)
    what = None if bad is None else f"the loss is {losses[bad]} at step {bad} of {total}"
    if what is None and step == total:
        broken = (name for name, weights in model.state_dict().items() if not weights.isfinite().all())
        what = next((f"{name} is not finite after training" for name in broken), None)
    if what is not None:
        raise InputError(f"{out}: {what}; lower hed.lr (--lr) and train again")
