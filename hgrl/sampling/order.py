"""Which images a step sees: batches in an order that a seed fixes, and each process's part of them."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from hgrl.core.errors import InputError

Rows = TypeVar("Rows", Tensor, list)


def mixed_seed(*parts: int) -> int:
    """A 63-bit seed from several numbers, the same on every machine."""
    digest = hashlib.blake2b(np.array(parts, dtype="<i8").tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@dataclass(frozen=True)
class BatchPart:
    """This process's part of a global batch: images [rank * n, (rank + 1) * n) of world * n."""

    rank: int = 0
    world: int = 1

    def of(self, rows: Rows) -> Rows:
        """This process's rows of (world * n, ...) rows."""
        count = len(rows) // self.world
        return rows[self.rank * count : (self.rank + 1) * count]


WHOLE = BatchPart()


class EpochOrder(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index) from step `start` on: each epoch in a new order by seed, whole batches only.

    batch: of all processes, whose number has no say in the order; part: this process's part of it. weights:
    images are drawn in proportion to these, as many as there are, with replacement; None: each comes once.
    Raises InputError if there is no image."""

    def __init__(
        self,
        images: int,
        batch: int,
        epochs: int,
        seed: int,
        start: int = 0,
        part: BatchPart = WHOLE,
        weights: Tensor | None = None,
    ) -> None:
        if not images:
            remedy = "check the data root and the profile's `data` section"
            raise InputError(f"no images to learn from: the split is empty; {remedy}")
        self.images, self.batch, self.epochs = images, min(batch, images), epochs
        self.seed, self.start, self.part, self.weights = seed, start, part, weights
        self.steps_per_epoch = images // self.batch
        self.total = self.steps_per_epoch * epochs

    def __len__(self) -> int:
        return self.total - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for epoch in range(self.start // self.steps_per_epoch, self.epochs):
            generator = torch.Generator().manual_seed(mixed_seed(self.seed, epoch))
            if self.weights is None:
                order = torch.randperm(self.images, generator=generator).tolist()
            else:
                order = torch.multinomial(self.weights, self.images, True, generator=generator).tolist()
            first = max(self.start - epoch * self.steps_per_epoch, 0)
            for step in range(first, self.steps_per_epoch):
                batch = order[step * self.batch : (step + 1) * self.batch]
                yield [(epoch, index) for index in self.part.of(batch)]

    def rest_of_epoch(self, start: int, weights: Tensor) -> "EpochOrder":
        """The batches from step `start` to the end of its epoch, of images drawn by `weights`."""
        epoch = start // self.steps_per_epoch
        return EpochOrder(self.images, self.batch, epoch + 1, self.seed, start, self.part, weights)
