"""What the edge networks' trainings share: targets of the annotators, the loss, one resumable loop."""

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from hgrl.core.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from hgrl.core.errors import InputError
from hgrl.core.progress import bar
from hgrl.core.settings import HedSettings, PidinetSettings
from hgrl.data.normalise import normalise
from hgrl.data.sets.bsds import ContourSamples

EDGE, NONE, IGNORED = 1, 0, 255
LOG_EVERY = 10  # steps between two looks at the loss: a look waits for the device
AVERAGE = "average."  # before the names of the averaged weights, in a file of a training in progress
Batch = tuple[Tensor, Tensor]  # images (B, 3, S, S) uint8, targets (B, S, S) uint8
Picture = tuple[np.ndarray, np.ndarray]  # image (H, W, 3) uint8 RGB, what is learnt of it (H, W)


def consensus(share: np.ndarray, least: float) -> np.ndarray:
    """Share of the annotators that drew a pixel -> uint8: 1 edge, 0 where nobody drew, 255 not scored.

    An edge needs the share `least` of them; fewer are not scored, as by HED's followers (Liu et al., "Richer
    convolutional features", CVPR 2017). Nor is what has a share below 0: it lies outside the image."""
    return np.where(share >= least, EDGE, np.where(share == 0, NONE, IGNORED)).astype(np.uint8)


def balanced_loss(logits: Tensor, target: Tensor, none_weight: float = 1.0) -> Tensor:
    """Class-balanced cross entropy (HED, equation 2), the mean over images.

    logits: (B, 1, H, W); target: (B, H, W) uint8, 1 edge, 0 none, else ignored. Per image, with beta the
    share of counted pixels that are no edge: -beta log p on edges and -(1 - beta) log(1 - p) elsewhere, the
    latter times `none_weight` (RCF's and PiDiNet's lambda), summed; here divided by the number of counted
    pixels, so that the rate does not depend on the image's size. An image without an edge has beta = 1 and
    adds nothing."""
    edge, none = target == EDGE, target == NONE
    counted = (edge | none).sum(dim=(1, 2), keepdim=True).clamp(min=1)
    beta = none.sum(dim=(1, 2), keepdim=True) / counted  # (B, 1, 1)
    weight = torch.where(edge, beta, torch.where(none, none_weight * (1 - beta), 0.0))
    losses = F.binary_cross_entropy_with_logits(logits[:, 0].float(), edge.float(), reduction="none")
    return (weight * losses / counted).sum(dim=(1, 2)).mean()


def deep_loss(answers: list[Tensor], target: Tensor, none_weight: float = 1.0) -> Tensor:
    """The sum of `balanced_loss` over the side outputs and the fusion, each of weight 1 (HED, equation 4)."""
    return torch.stack([balanced_loss(answer, target, none_weight) for answer in answers]).sum()


def data_identity(samples: Sequence[ContourSamples]) -> dict[str, Any]:
    """How many images are learnt from, and a hash of which."""
    each = (pair for split in samples for pair in zip(split.names, split.ground_truths, strict=True))
    truths = [(name, path.stat().st_size if path.exists() else None) for name, path in each]
    return {"images": len(truths), "data": hashlib.sha256(repr(truths).encode()).hexdigest()[:16]}


@dataclass
class EdgeTraining:
    """One network on its way: what its steps are made of, and how often its weights are written.

    average: of the weights' exponential moving average, which is the result; None: the last weights are."""

    identity: dict[str, Any]  # with `kind`, the section of its settings
    settings: HedSettings | PidinetSettings
    model: nn.Module
    optimizer: Optimizer
    rate: Callable[[int], float]  # step -> learning rate
    read: Callable[[], list[Picture]]
    draw: Callable[[list[Picture], int], Batch]  # by seed and step alone, or a resumed run would differ
    none_weight: float = 1.0
    average: float | None = None

    def run(self, out: Path, device: torch.device) -> Checkpoint:
        """Train to the end; write the weights, with settings and origin, to `out`.

        A half-trained `out` is continued (to the bit on a CPU), a complete one returned. InputError for an
        `out` of other settings or data, for missing ground truth, and for a loss or weights that are not
        finite (the last good file stays)."""
        self.model.to(device, memory_format=torch.channels_last).train()
        self.averaged = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.step, self.losses, total = 0, [], self.settings.iterations
        if out.exists():
            saved = load_checkpoint(out)
            saved.require(self.identity, out)
            if saved.complete:
                return saved
            self._resume(saved)
        pictures, written, unread = self.read(), time.monotonic(), []
        with bar(desc="training the edge network", total=total, initial=self.step) as progress:
            while self.step < total:
                unread.append(self._train_step(self.draw(pictures, self.step), device))
                self.step += 1
                progress.update()
                if len(unread) == LOG_EVERY or self.step == total:
                    self.losses += torch.stack(unread).tolist()
                    self._check_finite(out)
                    progress.set_postfix(loss=f"{self.losses[-1]:.4f}", refresh=False)
                    unread = []
                    is_due = time.monotonic() - written > 60 * self.settings.checkpoint_minutes
                    if is_due and self.step < total:
                        save_checkpoint(out, self._checkpoint())
                        written = time.monotonic()
        save_checkpoint(out, self._checkpoint())
        return self._checkpoint()

    def _resume(self, saved: Checkpoint) -> None:
        last = {name: value for name, value in saved.method.items() if not name.startswith(AVERAGE)}
        self.model.load_state_dict(last)
        if self.average is not None:
            for name, value in self.averaged.items():
                value.copy_(saved.method[AVERAGE + name])
        self.optimizer.load_state_dict(saved.optimizer)
        self.step, self.losses = saved.step, saved.losses.tolist()

    def _checkpoint(self) -> Checkpoint:
        done, weights = self.step == self.settings.iterations, self.model.state_dict()
        if self.average is not None:
            averaged = {AVERAGE + name: value for name, value in self.averaged.items()}
            weights = self.averaged if done else weights | averaged
        state = {} if done else self.optimizer.state_dict()  # of twice the weights' size
        seen = torch.tensor(self.losses)
        return Checkpoint(self.identity, self.step, self.settings.iterations, weights, state, {}, seen)

    def _train_step(self, batch: Batch, device: torch.device) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(self.step)
        images, target = (part.to(device) for part in batch)
        images = normalise(images).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.settings.precision == "bf16"):
            answers = self.model(images)
        loss = deep_loss(answers, target, self.none_weight)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        if self.average is not None:
            kept = min(
                self.average, (1 + self.step) / (10 + self.step)
            )  # the first weights are soon forgotten
            for name, value in self.model.state_dict().items():
                self.averaged[name].lerp_(value, 1 - kept)
        return loss.detach()

    def _check_finite(self, out: Path) -> None:
        """InputError for a loss that is not finite, and at the end for weights: a last step may not."""
        total = self.settings.iterations
        bad = next((k for k, loss in enumerate(self.losses) if not math.isfinite(loss)), None)
        what = None if bad is None else f"the loss is {self.losses[bad]} at step {bad} of {total}"
        if what is None and self.step == total:
            broken = (name for name, value in self.model.state_dict().items() if not value.isfinite().all())
            what = next((f"{name} is not finite after training" for name in broken), None)
        if what is not None:
            raise InputError(f"{out}: {what}; lower {self.identity['kind']}.lr (--lr) and train again")
