"""Several processes that train one network, started by `torchrun`; without it all of this is one process.

Each process ("rank") takes its part of every global batch. The mean of the ranks' losses is the loss of the
global batch, as DistributedDataParallel takes the mean of their gradients; what ranks exchange on the way
(`sum_over_ranks`) passes gradients back. Every rank makes the global batch's random draws."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from hgrl.core.device import pick_device
from hgrl.core.errors import InputError, ToldByFirst
from hgrl.sampling.order import BatchPart

Value = TypeVar("Value")


def batch_part() -> BatchPart:
    """This rank's part of every global batch."""
    together = dist.is_available() and dist.is_initialized()
    return BatchPart(dist.get_rank(), dist.get_world_size()) if together else BatchPart()


def rank() -> int:
    return batch_part().rank


def world() -> int:
    return batch_part().world


def is_first() -> bool:
    """Whether this process writes checkpoints, logs and results."""
    return not started_by_torchrun() or os.environ.get("RANK", "0") == "0"


def started_by_torchrun() -> bool:
    """Whether this is one of several processes of `torchrun`."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1 and "LOCAL_RANK" in os.environ


def training_device(name: str) -> torch.device:
    """`pick_device`; each of several processes has a card of its own, or all of them have the CPU.

    Raises InputError for a setting that names one card for all, and for a process without a card."""
    several = started_by_torchrun()
    if several and name not in ("auto", "cpu", "cuda"):
        problem = f"{name!r} is one device, and several processes train"
        raise InputError(f"setting 'device': {problem}; set it to cuda, cpu or auto")
    device = pick_device(name)
    if not several or device.type == "cpu":
        return device
    own, cards = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if own >= cards:
        problem = f"process {own} of this machine has no card, there are {cards}"
        raise InputError(f"torchrun: {problem}; lower --nproc-per-node")
    return torch.device("cuda", own)


@contextmanager
def processes(device: torch.device) -> Iterator[None]:
    """Join `torchrun`'s other processes, if any, while the block lasts: NCCL for cards, Gloo for the CPU."""
    if not started_by_torchrun():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def part_of_batch(images: int, batch: int) -> BatchPart:
    """This rank's part of a global batch; InputError if the batch does not divide among the processes."""
    part, size = batch_part(), min(batch, images)
    if rest := size % part.world:
        fitting = [str(n) for n in (size - rest, size - rest + part.world) if 2 <= n <= images]
        remedy = f"take {' or '.join(fitting)}" if fitting else "start fewer processes"
        what = f"{batch} images" + (f", of which the split has {images}," if size < batch else "")
        problem = f"{what} do not divide among {part.world} processes"
        raise error_of_all(f"setting 'pretrain.batch': {problem}; {remedy}")
    return part


def error_of_all(message: str) -> InputError:
    """The error to raise for what goes wrong on all ranks alike."""
    return InputError(message) if is_first() else ToldByFirst(message)


def from_first(function: Callable[[], Value]) -> Value:
    """What `function` returns on the first rank, which alone runs it; all ranks raise its InputError."""
    if world() == 1:
        return function()
    answer: list = [None, None]  # what it returned, and the error's message
    error = None
    if is_first():
        try:
            answer[0] = function()
        except InputError as caught:
            error, answer[1] = caught, str(caught)
    dist.broadcast_object_list(answer, src=0, device=torch.device("cpu"))
    if answer[1] is not None:
        raise error or ToldByFirst(answer[1])
    return answer[0]


def any_rank(flag: bool) -> bool:
    """Whether the flag is up on any rank: the same answer on all. Waits for the ranks, not for the device."""
    up = torch.tensor(int(flag))
    if world() > 1:
        dist.all_reduce(up, dist.ReduceOp.MAX)
    return bool(up)


@torch.no_grad()
def gather(rows: Tensor) -> Tensor:
    """(n, ...) of every rank, alike in shape -> (world * n, ...), in the order of ranks. No gradient."""
    if world() == 1:
        return rows.detach()
    parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(world())]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


class _Sum(torch.autograd.Function):
    """all_reduce with gradients: torch deprecates its own in 2.14, without a public successor."""

    @staticmethod
    def forward(_, values: Tensor) -> Tensor:
        total = values.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_, gradient: Tensor) -> Tensor:
        return _Sum.apply(gradient)


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum of a tensor of the same shape on every rank, with gradients."""
    return values if world() == 1 or not values.numel() else _Sum.apply(values)


def rows_of_ranks(rows: Tensor, owner: Tensor, index: Tensor) -> Tensor:
    """rows[index] of the rank `owner`, with gradients: (n, D) rows, indices (...) -> (..., D) float32.

    Only the wanted rows travel: each rank fills in its own and the rest is zero, so the sum is exact."""
    return sum_over_ranks(rows[index].float().masked_fill((owner != rank()).unsqueeze(-1), 0.0))
