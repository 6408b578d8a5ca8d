"""The one training loop: any method, any device, any number of processes; resumable to the bit on a CPU."""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from hgrl.core.checkpoint import Checkpoint
from hgrl.core.device import one_thread
from hgrl.core.interruption import Stopped, StopSignal
from hgrl.pretraining import ranks
from hgrl.pretraining.checkpoints import CheckpointKeeper
from hgrl.pretraining.job import TrainingJob
from hgrl.pretraining.ranks import from_first
from hgrl.pretraining.state import TrainingState
from hgrl.sampling.order import EpochOrder
from hgrl.sampling.views import TrainingViews, batches

LOG_EVERY = 10  # steps between two looks at the loss: a look waits for the device


def pretrain(
    job: TrainingJob, tick: Callable[[int], None] = lambda steps: None, stop_after: int | None = None
) -> Checkpoint:
    """Train one job; resumes from its checkpoint, or returns it if it is complete.

    tick: called with the number of steps just done. stop_after: end early at that step, as an interruption
    would. Inside `ranks.processes` every process calls this with the same job; the first one reads and writes
    all files. On a CPU torch is held to one thread, so that weights do not depend on the number of cores.

    Raises InputError for a checkpoint of other settings or another network, for a batch that does not divide
    among the processes, and for a loss that is not finite (the message names the step; the last good
    checkpoint stays); Stopped after a SIGTERM."""
    device = ranks.training_device(job.settings.device)
    with one_thread(device):
        loop = TrainingLoop(job, device)
        tick(loop.state.step)
        loop.run_until(min(stop_after or job.steps, job.steps), tick)
        return loop.state.checkpoint()


class TrainingLoop:
    """Steps of one job, their losses, and when they are saved."""

    def __init__(self, job: TrainingJob, device: torch.device) -> None:
        """From the job's checkpoint, if it has one."""
        self.job, self.keeper, method = job, CheckpointKeeper(job), job.method_class
        part = ranks.part_of_batch(len(job.samples), job.schedule.batch)
        self.state = TrainingState(job, device)
        if saved := from_first(self.keeper.newest):
            self.state.restore(saved)
        self.loss = self.state.loss_module()
        trees = job.trees if method.needs_trees else None
        beside = {"with_classes": method.needs_classes, "with_original": job.views == "one"}
        self.views = TrainingViews(job.samples, trees, job.settings, job.seed, job.height_scale, **beside)
        epochs, images = job.schedule.run_epochs, len(job.samples)
        self.order = EpochOrder(images, job.schedule.batch, epochs, job.seed, self.state.step, part)

    def run_until(self, last: int, tick: Callable[[int], None]) -> None:
        """Train up to step `last`, then save. After a SIGTERM save after the step in progress (with several
        ranks the one after it) and raise Stopped."""
        state, total = self.state, self.job.steps
        if state.step < last:
            with StopSignal() as signal:
                self._steps(last, tick, signal)
                from_first(self._save)
                signal.obeyed = state.step < last
            if state.step < last:
                done = f"{self.job.path}: stopped by a signal at step {state.step} of {total}"
                raise Stopped(f"{done}: training is not complete; run the same command to resume")
        if state.step == total:
            from_first(self.keeper.finish)

    def _steps(self, last: int, tick: Callable[[int], None], signal: StopSignal) -> None:
        state, agreement, unread = self.state, ranks.Agreement(), []
        saved, pause = time.monotonic(), 60 * self.job.schedule.checkpoint_minutes
        state.method.train()
        for batch in batches(self.views, self.order, self.job.schedule.workers, state.device):
            unread.append(state.train_step(self.loss, batch))
            tick(1)
            end = agreement.after_step(signal.asked) or state.step == last
            snapshots = self.keeper.snapshots_at(state.step)
            if end or snapshots or len(unread) == LOG_EVERY:
                self._read_losses(unread)
                unread = []
                if snapshots:
                    from_first(self._save_snapshots)
                if not end and ranks.any_rank(time.monotonic() - saved > pause):
                    from_first(self._save)
                    saved = time.monotonic()
            if end:
                agreement.settle()
                break

    def _read_losses(self, unread: list[Tensor]) -> None:
        """The global batch's losses: the means over ranks."""
        values = ranks.mean_over_ranks(torch.stack(unread)).tolist()
        for step, value in enumerate(values, self.state.step - len(values)):
            if not math.isfinite(value):
                raise ranks.error_of_all(self.keeper.fault(f"loss is {value} at step {step}"))
        self.state.losses.extend(values)

    def _save(self) -> None:
        self.keeper.save(self.state.checkpoint())

    def _save_snapshots(self) -> None:
        self.keeper.save_snapshots(self.state.checkpoint())
