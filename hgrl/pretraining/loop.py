"""The one training loop: any method, any device, any number of processes; resumable to the bit on a CPU."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hgrl.core.checkpoint import (
    Checkpoint,
    best_file,
    delete_run,
    load_checkpoint,
    mend,
    save_checkpoint,
    save_newest,
    snapshot_file,
    snapshot_step,
    tidy,
)
from hgrl.core.errors import InputError
from hgrl.core.interruption import Stopped, StopSignal
from hgrl.core.settings import PretrainSettings, Settings
from hgrl.data.samples import Samples
from hgrl.pretraining import ranks as distributed
from hgrl.pretraining.methods import REGISTRY, Method, build_method
from hgrl.pretraining.network import LAYERS
from hgrl.pretraining.ranks import error_of_all, from_first
from hgrl.pretraining.synced_norm import sync_batch_norm
from hgrl.sampling.views import Batch, EpochOrder, TrainingViews, batches, mixed_seed

LOG_EVERY = 10  # steps between two looks at the loss: a look waits for the device


def pick_device(name: str) -> torch.device:
    """`auto`: the first of CUDA, Apple's MPS and the CPU that is there."""
    if name != "auto":
        return torch.device(name)
    for candidate, there in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())):
        if there:
            return torch.device(candidate)
    return torch.device("cpu")


def training_device(name: str) -> torch.device:
    """`pick_device`; of several processes each has a card of its own, or all of them the CPU."""
    device, own = pick_device(name), distributed.local_rank()
    if not distributed.started_by_torchrun() or device.type == "cpu":
        return device
    if device.type != "cuda" or device.index is not None:
        raise InputError(
            f"setting 'device': {name!r} is one device, and several processes train; set it to cuda, cpu or auto"
        )
    if own >= torch.cuda.device_count():
        raise InputError(
            f"torchrun: process {own} of this machine has no card, there are {torch.cuda.device_count()}; lower --nproc-per-node"
        )
    return torch.device("cuda", own)


def learning_rate(settings: PretrainSettings, step: int, total: int) -> float:
    """The rate of a step: the paper's steps (section 4.2) or a cosine to zero, after an optional linear
    warm-up.
    """
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
    """Train one method with one seed; the checkpoint at `path` is continued where it stands, or returned when
    it is complete.

    tick: called with the number of steps just done. stop_after: end early at that step, as an interruption
    would.
    origin: a fingerprint of data and code; a checkpoint of another origin is refused like one of other
    settings.
    Inside `distributed.processes` every process calls this, with the same arguments; the first one reads and
    writes all files.
    Raises InputError for a checkpoint of other settings or another network, for a batch that does not divide
    among the processes, and for a loss that is not finite (the message names the step; the last good
    checkpoint stays); Stopped after a SIGTERM.
    """
    run = Training(method_name, settings, samples, trees, height_scale, path, seed, origin)
    tick(run.step)
    run.until(min(stop_after or run.order.total, run.order.total), tick)
    return run.checkpoint()


def run_identity(method_name: str, settings: Settings, images: int, seed: int, origin: str) -> dict[str, Any]:
    """What two runs must share for one to continue the other: everything that changes the weights by more
    than rounding, and nothing else.
    """
    own = REGISTRY.get(method_name, Method).sections
    sections = settings.model_dump(mode="json", include={"network", "augment", "pretrain", *own})
    for key in ("workers", "compile", "checkpoint_minutes", "keep_last", "keep_best", "snapshots"):
        del sections["pretrain"][key]
    sections |= {"short_side": settings.data.short_side, "max_regions": settings.grouping.max_regions}
    return {"method": method_name, "seed": seed, "images": images, "origin": origin, "settings": sections}


# Ranks compute the same buffers: none are sent before a step. The option's name depends on torch's version.
_NO_BUFFERS = {
    "forward_sync_buffers"
    if "forward_sync_buffers" in signature(DistributedDataParallel).parameters
    else "broadcast_buffers": False
}


class _Loss(nn.Module):
    """A method's loss as a forward pass, which is what DistributedDataParallel wraps."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, batch: Batch) -> Tensor:
        return self.method.loss(batch)[0]


class Training:
    """The state of one run between two steps, alike on every rank but for the images of the batch."""

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
        self.device = training_device(settings.device)
        share = distributed.share_of_batch(len(samples), settings.pretrain.batch)
        torch.manual_seed(mixed_seed(seed))
        self.method: Method = build_method(method_name, settings).to(self.device)
        if settings.pretrain.channels_last:
            self.method = self.method.to(memory_format=torch.channels_last)
        if share.world > 1:
            self._prepare_for_ranks()
        self.optimizer = torch.optim.Adam(
            self.method.parameters(),
            lr=settings.pretrain.lr,
            weight_decay=settings.pretrain.weight_decay,
            fused=self.device.type != "mps",
        )
        self.generator = torch.Generator(self.device).manual_seed(mixed_seed(seed, 1))
        self.losses: list[float] = []
        trees = trees if self.method.needs_trees else None
        self.views = TrainingViews(samples, trees, settings, seed, height_scale, self.method.needs_classes)
        if saved := from_first(self._newest):
            self._restore(saved)
        self.loss = self._loss(share.world)
        self.order = EpochOrder(
            len(samples), settings.pretrain.batch, settings.pretrain.run_epochs, seed, self.step, share
        )

    def _newest(self) -> Checkpoint | None:
        """The checkpoint to go on from. Without one, what a run before this may have left beside it is of no
        use.
        """
        mend(self.path, self.identity)
        if not self.path.exists():
            delete_run(self.path)
            return None
        saved = load_checkpoint(self.path)
        saved.require(self.identity, self.path)
        return saved

    def _prepare_for_ranks(self) -> None:
        """Layers without a gradient are frozen: to find them out in every step, DistributedDataParallel would
        wait for the device.
        """
        for layer in set(LAYERS) - set(self.method.layers):
            getattr(self.method.network, layer).requires_grad_(False)
        sync_batch_norm(self.method)

    def _loss(self, processes: int) -> nn.Module:
        """Batch -> loss."""
        if self.settings.pretrain.compile:
            for module in (self.method.network.backbone, self.method.network.hypercolumn):
                module.compile(dynamic=False)  # in place: names in the checkpoint stay
        loss = _Loss(self.method)
        return (
            DistributedDataParallel(loss, gradient_as_bucket_view=True, **_NO_BUFFERS)
            if processes > 1
            else loss
        )

    def until(self, last: int, tick: Callable[[int], None]) -> None:
        """Train up to step `last`, then save. SIGTERM: save after the step in progress (with several ranks
        the one after) and raise Stopped.
        """
        if self.step < last:
            with StopSignal() as signal:
                self._steps(last, tick, signal)
                from_first(self._save)
                signal.obeyed = self.step < last
            if self.step < last:
                done = f"{self.path}: stopped by a signal at step {self.step} of {self.order.total}"
                raise Stopped(f"{done}: training is not complete; the same command goes on")
        if self.step == self.order.total:
            from_first(self._tidy)

    def _steps(self, last: int, tick: Callable[[int], None], signal: StopSignal) -> None:
        saved, unread, agreement = time.monotonic(), [], distributed.Agreement()
        self.method.train()
        for batch in batches(self.views, self.order, self.settings.pretrain.workers, self.device):
            unread.append(self._train_step(batch))
            self.step += 1
            tick(1)
            end = agreement.after_step(signal.asked) or self.step == last
            if end or len(unread) == LOG_EVERY or self._is_marked():
                self._read_losses(unread)
                unread = []
                self._keep_marked()
                if not end and distributed.any_rank(
                    time.monotonic() - saved > 60 * self.settings.pretrain.checkpoint_minutes
                ):
                    from_first(self._save)
                    saved = time.monotonic()
            if end:
                agreement.settle()
                break

    def _train_step(self, batch: tuple[Tensor, ...]) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.settings.pretrain, self.step, self.order.total)
        images, labels, distances, *classes = batch
        inputs = Batch(images, labels, distances, self.step / self.order.total, self.generator, *classes)
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.settings.pretrain.precision == "bf16"
        ):
            loss = self.loss(inputs)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def _read_losses(self, unread: list[Tensor]) -> None:
        """The global batch's losses: the means over ranks."""
        values = distributed.mean_over_ranks(torch.stack(unread)).tolist()
        first = self.step - len(values)
        for offset, value in enumerate(values):
            if not math.isfinite(value):
                raise error_of_all(self._fault(f"loss is {value} at step {first + offset}"))
        self.losses.extend(values)

    def _is_marked(self) -> bool:
        """Whether this step ends an epoch or is a snapshot's: points that do not depend on the clock."""
        return self.step % self.order.steps_per_epoch == 0 or bool(self._snapshots_now())

    def _snapshots_now(self) -> list[Path]:
        shares = self.settings.pretrain.snapshots
        return [
            snapshot_file(self.path, share)
            for share in shares
            if snapshot_step(share, self.order.total) == self.step
        ]

    def _best_epoch(self) -> int | None:
        """The complete epoch, from 1, of the lowest mean loss so far; the first of equal ones."""
        complete = len(self.losses) // self.order.steps_per_epoch * self.order.steps_per_epoch
        means = (
            torch.tensor(self.losses[:complete], dtype=torch.float64)
            .view(-1, self.order.steps_per_epoch)
            .mean(1)
        )
        return int(means.argmin()) + 1 if len(means) else None

    def _keep_marked(self) -> None:
        """The best checkpoint so far, and the snapshots: full checkpoints all. That of the last step is
        `path` itself.
        """
        files = self._snapshots_now()
        ends_epoch, whole = self.step % self.order.steps_per_epoch == 0, self.step == self.order.total
        if (
            ends_epoch
            and not whole
            and self.settings.pretrain.keep_best
            and self._best_epoch() == self.step // self.order.steps_per_epoch
        ):
            files.append(best_file(self.path))
        if files:
            from_first(lambda: self._write(*files))

    def _write(self, *files: Path) -> None:
        self._require_finite()
        for file in files:
            save_checkpoint(file, self.checkpoint())

    def _save(self) -> None:
        self._require_finite()
        save_newest(self.path, self.checkpoint(), self.settings.pretrain.keep_last)

    def _require_finite(self) -> None:
        """A loss may be finite and its gradient not: such weights never replace a good checkpoint."""
        for name, weights in self.method.state_dict().items():
            if not torch.isfinite(weights).all():
                raise InputError(self._fault(f"{name} is not finite after step {self.step - 1}"))

    def _tidy(self) -> None:
        """Beside a complete checkpoint only files that depend on the settings alone stay, not on when this
        run was saved or stopped.
        """
        keep = {snapshot_file(self.path, share) for share in self.settings.pretrain.snapshots}
        if (
            self.settings.pretrain.keep_best
            and self._best_epoch() != self.order.total // self.order.steps_per_epoch
        ):
            keep.add(best_file(self.path))
        tidy(self.path, keep)

    def _fault(self, what: str) -> str:
        kept = f"; the last good checkpoint stays at {self.path}" if self.path.exists() else ""
        return f"{what} of {self.order.total}{kept}; lower pretrain.lr or add pretrain.warmup_steps"

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
        self.method.load_state_dict(saved.method)
        self.optimizer.load_state_dict(saved.optimizer)
        torch.set_rng_state(saved.random_states["torch"])
        self.generator.set_state(saved.random_states["sampling"])
        self.step, self.losses = saved.step, saved.losses.tolist()
