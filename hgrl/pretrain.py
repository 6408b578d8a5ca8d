"""The one training loop: any method, any device, resumable to the bit on a CPU."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from hgrl.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from hgrl.config import PretrainSettings, Settings
from hgrl.data.samples import Samples
from hgrl.errors import InputError
from hgrl.methods import REGISTRY, Method, build_method
from hgrl.views import Batch, EpochOrder, TrainingViews, batches, mixed_seed

LOG_EVERY = 10  # steps between two looks at the loss: a look waits for the device


def pick_device(name: str) -> torch.device:
    """`auto`: the first of CUDA, Apple's MPS and the CPU that is there."""
    if name != "auto":
        return torch.device(name)
    for candidate, there in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())):
        if there:
            return torch.device(candidate)
    return torch.device("cpu")


def learning_rate(settings: PretrainSettings, step: int, total: int) -> float:
    """The rate of a step: the paper's steps (section 4.2) or a cosine to zero, after an optional linear warm-up."""
    if step < settings.warmup_steps:
        return settings.lr * (step + 1) / settings.warmup_steps
    done = step / total
    if settings.schedule == "cosine":
        return settings.lr * 0.5 * (1 + math.cos(math.pi * done))
    return settings.lr * settings.decay ** sum(done >= milestone for milestone in settings.milestones)


def pretrain(
    method_name: str,
    settings: Settings,
    samples: Samples,
    trees: Path | None,
    height_scale: float,
    path: Path,
    seed: int,
    tick: Callable[[int], None] = lambda steps: None,
    stop_after: int | None = None,
    origin: str = "",
) -> Checkpoint:
    """Train one method with one seed; the checkpoint at `path` is continued where it stands, or returned when it is complete.

    tick: called with the number of steps just done. stop_after: end early at that step, as an interruption would.
    origin: a fingerprint of data and code; a checkpoint of another origin is refused like one of other settings.
    Raises InputError for a checkpoint of other settings or another network, and for a loss that is not finite (the message
    names the step; the last good checkpoint stays).
    """
    run = Training(method_name, settings, samples, trees, height_scale, path, seed, origin)
    tick(run.step)
    run.until(min(stop_after or run.order.total, run.order.total), tick)
    return run.checkpoint()


def run_identity(method_name: str, settings: Settings, images: int, seed: int, origin: str) -> dict[str, Any]:
    """What two runs must share for one to continue the other: everything that changes the weights, and nothing else."""
    own = REGISTRY.get(method_name, Method).sections
    sections = settings.model_dump(mode="json", include={"network", "augment", "pretrain", *own})
    for key in ("workers", "checkpoint_minutes"):
        del sections["pretrain"][key]
    sections |= {"short_side": settings.data.short_side, "max_regions": settings.grouping.max_regions}
    return {"method": method_name, "seed": seed, "images": images, "origin": origin, "settings": sections}


class Training:
    """The state of one run between two steps."""

    def __init__(
        self,
        method_name: str,
        settings: Settings,
        samples: Samples,
        trees: Path | None,
        height_scale: float,
        path: Path,
        seed: int,
        origin: str,
    ) -> None:
        self.settings, self.path, self.seed, self.step = settings, path, seed, 0
        self.identity = run_identity(method_name, settings, len(samples), seed, origin)
        self.device = pick_device(settings.device)
        torch.manual_seed(mixed_seed(seed))
        self.method: Method = build_method(method_name, settings).to(self.device)
        if settings.pretrain.channels_last:
            self.method = self.method.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(
            self.method.parameters(), lr=settings.pretrain.lr, weight_decay=settings.pretrain.weight_decay, fused=self.device.type != "mps"
        )
        self.generator = torch.Generator(self.device).manual_seed(mixed_seed(seed, 1))
        self.losses: list[float] = []
        trees = trees if self.method.needs_trees else None
        self.views = TrainingViews(samples, trees, settings, seed, height_scale, self.method.needs_classes)
        if path.exists():
            self._restore(load_checkpoint(path))
        self.order = EpochOrder(len(samples), settings.pretrain.batch, settings.pretrain.run_epochs, seed, self.step)

    def until(self, last: int, tick: Callable[[int], None]) -> None:
        """Train up to step `last`, then save."""
        if self.step >= last:
            return
        saved, unread = time.monotonic(), []
        self.method.train()
        for batch in batches(self.views, self.order, self.settings.pretrain.workers, self.device):
            unread.append(self._train_step(batch))
            self.step += 1
            tick(1)
            if len(unread) == LOG_EVERY or self.step == last:
                self._read_losses(unread)
                unread = []
                if time.monotonic() - saved > 60 * self.settings.pretrain.checkpoint_minutes and self.step < last:
                    self._save()
                    saved = time.monotonic()
            if self.step == last:
                break
        self._save()

    def _train_step(self, batch: tuple[Tensor, ...]) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.settings.pretrain, self.step, self.order.total)
        images, labels, distances, *classes = batch
        inputs = Batch(images, labels, distances, self.step / self.order.total, self.generator, *classes)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.pretrain.precision == "bf16"):
            loss, _ = self.method.loss(inputs)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def _read_losses(self, unread: list[Tensor]) -> None:
        values = torch.stack(unread).tolist()
        first = self.step - len(values)
        for offset, value in enumerate(values):
            if not math.isfinite(value):
                self._stop(f"loss is {value} at step {first + offset}")
        self.losses.extend(values)

    def _save(self) -> None:
        """A loss may be finite and its gradient not: such weights never replace a good checkpoint."""
        for name, weights in self.method.state_dict().items():
            if not torch.isfinite(weights).all():
                self._stop(f"{name} is not finite after step {self.step - 1}")
        save_checkpoint(self.path, self.checkpoint())

    def _stop(self, what: str) -> NoReturn:
        kept = f"; the last good checkpoint stays at {self.path}" if self.path.exists() else ""
        raise InputError(f"{what} of {self.order.total}{kept}; lower pretrain.lr or add pretrain.warmup_steps")

    def checkpoint(self) -> Checkpoint:
        return Checkpoint(
            identity=self.identity,
            step=self.step,
            total_steps=self.order.total,
            method=self.method.state_dict(),
            optimizer=self.optimizer.state_dict(),
            random_states={"torch": torch.get_rng_state(), "sampling": self.generator.get_state()},
            losses=torch.tensor(self.losses),
        )

    def _restore(self, saved: Checkpoint) -> None:
        saved.require(self.identity, self.path)
        self.method.load_state_dict(saved.method)
        self.optimizer.load_state_dict(saved.optimizer)
        torch.set_rng_state(saved.random_states["torch"])
        self.generator.set_state(saved.random_states["sampling"])
        self.step, self.losses = saved.step, saved.losses.tolist()
