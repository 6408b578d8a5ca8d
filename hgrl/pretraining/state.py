"""What a training run changes from step to step: weights, optimiser, random states and losses."""

import math

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hgrl.core.checkpoint import Checkpoint
from hgrl.core.settings import PretrainSettings
from hgrl.pretraining import ranks
from hgrl.pretraining.job import TrainingJob
from hgrl.pretraining.methods import Method, build_method
from hgrl.pretraining.network import LAYERS
from hgrl.pretraining.synced_norm import sync_batch_norm
from hgrl.sampling.order import mixed_seed
from hgrl.sampling.views import Batch


def learning_rate(settings: PretrainSettings, step: int, total: int) -> float:
    """The rate of a step: section 4.2's steps or a cosine to zero, after an optional linear warm-up."""
    if step < settings.warmup_steps:
        return settings.lr * (step + 1) / settings.warmup_steps
    done = step / total
    if settings.schedule == "cosine":
        return settings.lr * 0.5 * (1 + math.cos(math.pi * done))
    return settings.lr * settings.decay ** sum(done >= milestone for milestone in settings.milestones)


class TrainingState:
    """A run between two steps, alike on every rank."""

    def __init__(self, job: TrainingJob, device: torch.device) -> None:
        """Fresh weights by the job's seed."""
        self.job, self.device, settings = job, device, job.schedule
        torch.manual_seed(mixed_seed(job.seed))
        self.method: Method = build_method(job.method, job.settings).to(device)
        if settings.channels_last:
            self.method = self.method.to(memory_format=torch.channels_last)
        if ranks.world() > 1:
            # without gradients: to find that out in every step, DistributedDataParallel would wait
            for layer in set(LAYERS) - set(self.method.layers):
                getattr(self.method.network, layer).requires_grad_(False)
            sync_batch_norm(self.method)
        adam = {"lr": settings.lr, "weight_decay": settings.weight_decay, "fused": device.type != "mps"}
        self.optimizer = torch.optim.Adam(self.method.parameters(), **adam)
        self.generator = torch.Generator(device).manual_seed(mixed_seed(job.seed, 1))
        self.step, self.losses = 0, []

    def restore(self, saved: Checkpoint) -> None:
        self.method.load_state_dict(saved.method)
        self.optimizer.load_state_dict(saved.optimizer)
        torch.set_rng_state(saved.random_states["torch"])
        self.generator.set_state(saved.random_states["sampling"])
        self.step, self.losses = saved.step, saved.losses.tolist()

    def checkpoint(self) -> Checkpoint:
        return Checkpoint(
            identity=self.job.identity,
            step=self.step,
            total_steps=self.job.steps,
            method=self.method.state_dict(),
            optimizer=self.optimizer.state_dict(),
            random_states={"torch": torch.get_rng_state(), "sampling": self.generator.get_state()},
            losses=torch.tensor(self.losses),
        )

    def loss_module(self) -> nn.Module:
        """Batch -> loss: compiled if the settings say so, and with the mean of the ranks' gradients."""
        if self.job.schedule.compile:
            for module in (self.method.network.backbone, self.method.network.hypercolumn):
                module.compile(dynamic=False)  # in place: names in the checkpoint stay
        if ranks.world() == 1:
            return self.method
        together = DistributedDataParallel(self.method, gradient_as_bucket_view=True)
        # Ranks compute the same buffers: none are sent. The argument's name changed after torch 2.11.
        together.broadcast_buffers = False
        return together

    def train_step(self, loss_of: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """One step of the optimiser; the loss of this rank's part, still on the device."""
        settings, total = self.job.schedule, self.job.steps
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(settings, self.step, total)
        inputs = Batch(**batch, progress=self.step / total, generator=self.generator)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            loss = loss_of(inputs)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.step += 1
        return loss.detach()
