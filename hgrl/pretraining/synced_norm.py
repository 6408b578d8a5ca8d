"""Batch normalisation over the images of all ranks, so that several processes normalise a batch as one would.

torch's own SyncBatchNorm runs on cards alone and makes the host wait for the device in every layer (it drops
empty batches by a boolean mask); ranks here have equal parts. One collective per layer and direction."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from hgrl.pretraining import ranks

AXES = (0, 2, 3)


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """nn.BatchNorm2d with the global batch's statistics while it trains. Ranks have equal parts of it."""

    @torch.compiler.disable
    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) of this rank -> the same shape and dtype."""
        if not self.training or ranks.world() == 1:
            return super().forward(images)
        with torch.no_grad():
            variance, mean = torch.var_mean(images.float(), AXES, correction=0)  # of this rank's part
            means, variances = ranks.gather(torch.stack([mean, variance])[None]).unbind(1)  # (world, C) each
            mean = means.mean(0)
            variance = (variances + (means - mean).square()).mean(0)
            count = images[:, 0].numel() * ranks.world()
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        return _Normalise.apply(images, self.weight, self.bias, mean, variance, self.eps)


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) * weight + bias, where mean and variance are of x on all ranks."""

    @staticmethod
    def forward(ctx, images: Tensor, weight: Tensor, bias: Tensor, *statistics: Tensor | float) -> Tensor:
        mean, variance, eps = statistics
        ctx.save_for_backward(images, weight, mean, (variance + eps).rsqrt())
        return F.batch_norm(images, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, weight, mean, scale = ctx.saved_tensors
        gradient, mean, scale = gradient.float(), mean.view(-1, 1, 1), scale.view(-1, 1, 1)
        normalised = (images.float() - mean) * scale
        sums = torch.stack([gradient.sum(AXES), (gradient * normalised).sum(AXES)])  # this rank's own
        means = sums.clone()
        dist.all_reduce(means)
        means /= images[:, 0].numel() * ranks.world()
        through_mean, through_variance = means.view(2, -1, 1, 1)
        scale = scale * weight.view(-1, 1, 1)
        of_images = (gradient - through_mean - normalised * through_variance) * scale
        return of_images.to(images.dtype), sums[1], sums[0], None, None, None


def sync_batch_norm(module: nn.Module) -> None:
    """Replace, in place, every nn.BatchNorm2d that learns; momentum encoders keep their own statistics."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d and child.weight.requires_grad:
            synced = SyncedBatchNorm2d(child.num_features, child.eps, child.momentum)
            synced.weight, synced.bias = child.weight, child.bias
            for key, value in child.named_buffers():
                setattr(synced, key, value)
            setattr(module, name, synced.train(child.training))
        else:
            sync_batch_norm(child)
