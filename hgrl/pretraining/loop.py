"""The one training loop: any method, any device, any number of processes; resumable to the bit on a CPU."""

import math
import time
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset

from hgrl.core.checkpoint import Checkpoint
from hgrl.core.device import one_thread
from hgrl.core.interruption import Stopped, StopSignal
from hgrl.core.settings import PretrainSettings
from hgrl.pretraining import ranks
from hgrl.pretraining.checkpoints import CheckpointKeeper
from hgrl.pretraining.job import TrainingJob
from hgrl.pretraining.methods import Method, build_method
from hgrl.pretraining.network import LAYERS
from hgrl.pretraining.synced_norm import sync_batch_norm
from hgrl.sampling.order import EpochOrder, mixed_seed
from hgrl.sampling.views import Batch, TrainingViews, batches, whole_images

LOG_EVERY = 10  # steps between two looks at the loss: a look waits for the device


def train(job: TrainingJob, tick: Callable[[int], None]) -> None:
    """Train one job up to its last step, from its checkpoint if there is one.

    tick: called with the number of steps just done. Inside `ranks.processes` every process calls this with
    the same job; the first one reads and writes all files. On a CPU torch is held to one thread, so that
    weights do not depend on the number of cores.

    Raises InputError for a checkpoint of other settings or another network, for a batch that does not divide
    among the processes, and for a loss that is not finite (the message names the step; the last good
    checkpoint stays); Stopped after a SIGTERM."""
    device = ranks.training_device(job.settings.device)
    with one_thread(device):
        loop = TrainingLoop(job, device)
        tick(loop.state.step)
        loop.run_until(job.steps, tick)


class TrainingLoop:
    """Steps of one job, from its checkpoint if it has one; their losses, and when they are saved."""

    def __init__(self, job: TrainingJob, device: torch.device) -> None:
        self.job, self.keeper = job, CheckpointKeeper(job)
        images, batch = len(job.samples), job.schedule.batch
        part = ranks.part_of_batch(images, batch)
        self.state = TrainingState(job, device)
        if saved := ranks.from_first(self.keeper.newest):
            self.state.restore(saved)
        self.loss = self.state.loss_module()
        self.views = _views(job)
        self.order = EpochOrder(images, batch, job.schedule.run_epochs, job.seed, self.state.step, part)

    def run_until(self, last: int, tick: Callable[[int], None]) -> None:
        """Train up to step `last`, or up to the one in progress at a SIGTERM (raises Stopped), then save."""
        state, total = self.state, self.job.steps
        if state.step < last:
            with StopSignal() as signal:
                self._steps(last, tick, signal)
                self._save(self.keeper.save)
                signal.obeyed = state.step < last
            if signal.obeyed:
                done = f"stopped by a signal at step {state.step} of {total}: training is not complete"
                raise Stopped(f"{self.job.path}: {done}; run the same command to resume")
        if state.step == total:
            ranks.from_first(self.keeper.finish)

    def _steps(self, last: int, tick: Callable[[int], None], signal: StopSignal) -> None:
        state, unread = self.state, []
        saved, pause = time.monotonic(), 60 * self.job.schedule.checkpoint_minutes
        state.method.train()
        for batch in self.batches():
            unread.append(state.train_step(self.loss, batch))
            tick(1)
            end = ranks.any_rank(signal.asked) or state.step == last
            snapshots = self.keeper.snapshots_at(state.step)
            if end or snapshots or len(unread) == LOG_EVERY:
                self._read_losses(unread)
                unread = []
                if snapshots:
                    self._save(self.keeper.save_snapshots)
                if end:
                    break
                if ranks.any_rank(time.monotonic() - saved > pause):
                    self._save(self.keeper.save)
                    saved = time.monotonic()

    def batches(self) -> Iterator[dict[str, Tensor]]:
        """The rest of the run's; epoch by epoch for a method that looks at all images before each."""
        state, order, begins = self.state, self.order, self.job.method_class.begins
        given = self.job.schedule.workers, state.device
        if begins == "run" and not state.step:
            state.begin(whole_images(self.views, order.batch, *given))
        if begins != "epoch":
            yield from batches(self.views, order, *given)
            return
        while state.step < self.job.steps:
            if state.step % order.steps_per_epoch == 0:
                state.begin(whole_images(self.views, order.batch, *given))
            rest = order.rest_of_epoch(state.step, state.method.image_weights())
            yield from batches(self.views, rest, *given)

    def _read_losses(self, unread: list[Tensor]) -> None:
        """The global batch's losses: the means over ranks."""
        values = (ranks.sum_over_ranks(torch.stack(unread)) / ranks.world()).tolist()
        for step, value in enumerate(values, self.state.step - len(values)):
            if not math.isfinite(value):
                raise ranks.error_of_all(self.keeper.fault(f"loss is {value} at step {step}"))
        self.state.losses.extend(values)

    def _save(self, save: Callable) -> None:
        ranks.from_first(lambda: save(self.state.checkpoint()))


def _views(job: TrainingJob) -> Dataset:
    method, settings = job.method_class, job.settings.model_copy(update={"augment": job.augment})
    if method.needs_clips:
        return method.training_set(job.samples, settings, job.seed)
    trees = job.trees if method.needs_trees else None
    beside = {"with_classes": method.needs_classes, "with_index": method.begins == "epoch"}
    beside["partition"] = method.partition(job.settings)
    given = job.samples, trees, settings, job.seed, job.height_scale
    return TrainingViews(*given, with_original=job.augment.views == "one", **beside)


def learning_rate(settings: PretrainSettings, step: int, total: int) -> float:
    """The rate of a step: section 4.2's steps or a cosine to zero, after an optional linear warm-up."""
    if step < settings.warmup_steps:
        return settings.lr * (step + 1) / settings.warmup_steps
    done = step / total
    if settings.schedule == "cosine":
        return settings.lr * 0.5 * (1 + math.cos(math.pi * done))
    return settings.lr * settings.decay ** sum(done >= milestone for milestone in settings.milestones)


def optimizer_of(
    method: nn.Module, settings: PretrainSettings, device: torch.device
) -> torch.optim.Optimizer:
    """Adam, or SGD with momentum."""
    given = {"lr": settings.lr, "weight_decay": settings.weight_decay, "fused": device.type != "mps"}
    if settings.optimizer == "sgd":
        return torch.optim.SGD(method.parameters(), momentum=settings.momentum, **given)
    return torch.optim.Adam(method.parameters(), **given)


class TrainingState:
    """A run between two steps, alike on every rank: at first fresh weights by the job's seed."""

    def __init__(self, job: TrainingJob, device: torch.device) -> None:
        self.job, self.device, settings = job, device, job.schedule
        torch.manual_seed(mixed_seed(job.seed))
        self.method: Method = build_method(job.method, job.settings).to(device)
        if settings.channels_last:
            self.method = self.method.to(memory_format=torch.channels_last)
        if ranks.world() > 1:
            # DistributedDataParallel would wait in every step to find layers without gradients
            for layer in set(LAYERS) - set(self.method.layers) if self.method.network else ():
                getattr(self.method.network, layer).requires_grad_(False)
            sync_batch_norm(self.method)
        self.optimizer = optimizer_of(self.method, settings, device)
        self.generator = torch.Generator(device).manual_seed(mixed_seed(job.seed, 1))
        self.step, self.losses = 0, []

    def restore(self, saved: Checkpoint) -> None:
        self.method.load_state_dict(saved.method)
        self.optimizer.load_state_dict(saved.optimizer)
        torch.set_rng_state(saved.random_states["torch"])
        self.generator.set_state(saved.random_states["sampling"])
        self.step, self.losses = saved.step, saved.losses.tolist()

    def checkpoint(self) -> Checkpoint:
        states = {"torch": torch.get_rng_state(), "sampling": self.generator.get_state()}
        done, weights = (self.job.identity, self.step, self.job.steps), self.method.state_dict()
        return Checkpoint(*done, weights, self.optimizer.state_dict(), states, torch.tensor(self.losses))

    def loss_module(self) -> nn.Module:
        """Batch -> loss: compiled if the settings say so, and with the mean of the ranks' gradients."""
        if self.job.schedule.compile and self.method.network:
            for layer in ("backbone", "hypercolumn"):
                getattr(self.method.network, layer).compile(dynamic=False)  # in place: names stay
        if ranks.world() == 1:
            return self.method
        together = DistributedDataParallel(self.method, gradient_as_bucket_view=True)
        together.broadcast_buffers = False  # ranks compute the same; the argument's name changed after 2.11
        return together

    def begin(self, images: Iterable[Tensor]) -> None:
        """Let the method look at all images; the optimiser forgets the parameters that it draws afresh."""
        self.method.eval()
        for parameter in self.method.begin(images, self.generator):
            self.optimizer.state.pop(parameter, None)
        self.method.train()

    def train_step(self, loss_of: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """One step of the optimiser; the loss of this rank's part, still on the device."""
        settings, total = self.job.schedule, self.job.steps
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(settings, self.step, total)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            loss = loss_of(Batch(**batch, progress=self.step / total, generator=self.generator))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.step += 1
        return loss.detach()
