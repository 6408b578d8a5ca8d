"""Several processes that train one network: who they are, what they exchange, and how they agree. Without
`torchrun` all of it is one process.

Each process ("rank") takes its share of every global batch. A rank's loss is such that the mean over ranks is
the loss of the global batch, because that is what DistributedDataParallel does to gradients; what is
exchanged on the way (`sum_over_ranks`) passes gradients back to the rank they belong to. Random draws are
those of the global batch, made alike on every rank, of which each uses its share.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from hgrl.core.errors import InputError, ToldByFirst

Value = TypeVar("Value")
Rows = TypeVar("Rows", Tensor, list)


@dataclass(frozen=True)
class Share:
    """This rank's part of a global batch: images [rank * n, (rank + 1) * n) of world * n."""

    rank: int = 0
    world: int = 1

    def of(self, rows: Rows) -> Rows:
        """This rank's rows of (world * n, ...) rows."""
        count = len(rows) // self.world
        return rows[self.rank * count : (self.rank + 1) * count]

    def uniform(
        self, shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device
    ) -> Tensor:
        """Random numbers in [0, 1) of the given shape, whose first axis is this rank's images: its rows of
        the global batch's draw.
        """
        return self.of(torch.rand((shape[0] * self.world, *shape[1:]), generator=generator, device=device))


def share() -> Share:
    return (
        Share(dist.get_rank(), dist.get_world_size())
        if dist.is_available() and dist.is_initialized()
        else Share()
    )


def rank() -> int:
    return share().rank


def world() -> int:
    return share().world


def is_first() -> bool:
    """Whether this process writes checkpoints, logs and results."""
    return int(os.environ.get("RANK", 0)) == 0 if started_by_torchrun() else share().rank == 0


def started_by_torchrun() -> bool:
    """Whether this is one of several processes of `torchrun`."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1 and "LOCAL_RANK" in os.environ


def local_rank() -> int:
    """The number of this process on its machine, and of its card."""
    return int(os.environ.get("LOCAL_RANK", 0))


@contextmanager
def processes(device: torch.device) -> Iterator[None]:
    """Join the other processes that `torchrun` started, for as long as the block lasts; does nothing where
    there are none.

    Tensors on a card go through NCCL, those on the CPU through Gloo.
    """
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


def share_of_batch(images: int, batch: int) -> Share:
    """This rank's share of a global batch; InputError where it does not divide among the processes."""
    mine, global_batch = share(), min(batch, images)
    if rest := global_batch % mine.world:
        fitting = [
            size for size in (global_batch - rest, global_batch - rest + mine.world) if 2 <= size <= images
        ]
        remedy = f"take {' or '.join(map(str, fitting))}" if fitting else "start fewer processes"
        what = (
            f"{batch} images"
            if batch == global_batch
            else f"{batch} images, of which the split has {images},"
        )
        raise error_of_all(
            f"setting 'pretrain.batch': {what} do not divide among {mine.world} processes; {remedy}"
        )
    return mine


def error_of_all(message: str) -> InputError:
    """The error to raise for what goes wrong on all ranks alike."""
    return InputError(message) if is_first() else ToldByFirst(message)


def from_first(function: Callable[[], Value]) -> Value:
    """What `function` returns on the first rank, which alone runs it; where it raises InputError there, all
    ranks do.
    """
    if world() == 1:
        return function()
    answer: list = [None, None]
    error = None
    if is_first():
        try:
            answer[0] = function()
        except InputError as caught:
            error, answer[1] = caught, (type(caught), str(caught))
    dist.broadcast_object_list(answer, src=0, device=torch.device("cpu"))
    if error is not None:
        raise error
    if answer[1] is not None:
        raise ToldByFirst(answer[1][1])
    return answer[0]


def any_rank(flag: bool) -> bool:
    """Whether the flag is up on any rank: the same answer on all of them. Waits for the slowest."""
    if world() == 1:
        return flag
    up = torch.tensor(int(flag))
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
    """all_reduce; the gradient of the sum is the sum of the ranks' gradients."""

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


def mean_over_ranks(values: Tensor) -> Tensor:
    return sum_over_ranks(values) / world()


def fetch(rows: Tensor, owner: Tensor, index: Tensor) -> Tensor:
    """rows[index] of the rank `owner`, with gradients: (n, D) rows of every rank, indices (...) -> (..., D)
    float32, alike on all ranks.

    Only the wanted rows travel: each rank fills in its own and the rest is zero, so the sum is exact.
    """
    return sum_over_ranks(rows[index].float().masked_fill((owner != rank()).unsqueeze(-1), 0.0))


def gather_with_gradient(rows: Tensor) -> Tensor:
    """As `gather`, and gradients find their way back to the rank that a row is of."""
    if world() == 1:
        return rows
    before, after = rank() * len(rows), (world() - 1 - rank()) * len(rows)
    return sum_over_ranks(
        torch.cat([rows.new_zeros(before, *rows.shape[1:]), rows, rows.new_zeros(after, *rows.shape[1:])])
    )


class Agreement:
    """A flag that any rank may raise in any step and that all see in the same one, without waiting for each
    other.

    Several ranks: what is asked in one step is known to all one step later, when the answer has long arrived.
    """

    def __init__(self) -> None:
        self.sent: tuple[dist.Work, Tensor] | None = None

    def after_step(self, flag: bool) -> bool:
        """Call once a step, on every rank."""
        if world() == 1:
            return flag
        agreed, up = self.settle(), torch.tensor(int(flag))
        self.sent = dist.all_reduce(up, dist.ReduceOp.MAX, async_op=True), up
        return agreed

    def settle(self) -> bool:
        """The answer to what was asked last."""
        if self.sent is None:
            return False
        work, up = self.sent
        self.sent = None
        work.wait()
        return bool(up)
