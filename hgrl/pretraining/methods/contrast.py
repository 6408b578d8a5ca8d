"""What contrastive methods share: codes of images, InfoNCE, a momentum encoder and a queue of keys.

Names are MoCo's (He et al. 2020): queries come from the trained encoder, keys from a copy that follows it."""

import copy
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from hgrl.core.data_settings import Fraction, Range
from hgrl.core.errors import InputError
from hgrl.core.settings import ViewSettings
from hgrl.pretraining.ranks import batch_part, error_of_all, gather, sum_over_ranks

# modules, uint8 images (B, 3, S, S) -> codes, B first
Encode = Callable[[Sequence[nn.Module], Tensor], tuple[Tensor, ...]]


class InstDiscViews(ViewSettings):
    """The augmentation of InstDisc's code (Wu et al. 2018), which MoCo's, version 1, and InstFeat's share.

    Greyscale comes behind the jitter, as in InstFeat's; MoCo's has it before."""

    crop_area: Range = (0.2, 1.0)
    hue: float = Field(0.4, ge=0, le=0.5)
    greyscale: Fraction = 0.2


def in_groups(encode: Callable[[Tensor], Tensor], images: Tensor, groups: int) -> Tensor:
    """(B, 3, S, S) images of this rank -> encode(images), (B, ...), where every `groups`-th image, and of the
    other ranks the same ones, is normalised together: queries see as many images as their keys.

    As the authors' single-card code has it (SplitBatchNorm in MoCo's notebook): groups are not shuffled."""
    count = group_count(groups, len(images) * batch_part().world)
    if count > len(images):
        problem = f"{count} groups of images, and {len(images)} images in each process"
        raise error_of_all(f"setting 'groups' of the method: {problem}; lower it or raise the batch")
    encoded = [encode(images[first::count]) for first in range(count)]
    where = torch.arange(len(images), device=images.device)
    return torch.cat(encoded)[torch.cat([where[first::count] for first in range(count)]).argsort()]


def group_count(groups: int, images: int) -> int:
    """Of batch normalisation: never an image by itself."""
    return max(1, min(groups, images // 2))


def image_codes(features: Tensor, head: nn.Module) -> Tensor:
    """(B, C, h, w) features -> (B, D) float32 unit vectors: average pooling, then the head."""
    return F.normalize(head(features.mean((2, 3))).float(), dim=1)


def info_nce(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """MoCo's equation 1, averaged: -log of the own key's weight among the own key and all of the queue.

    queries, keys: (N, D) unit vectors, row by row a pair; queue: (K, D) unit vectors, all negatives."""
    # bf16 would round cosines to 3 digits, before the temperature
    with torch.autocast(queries.device.type, enabled=False):
        positive = (queries * keys).sum(1, keepdim=True)  # N, 1
        negative = queries @ queue.clone().T  # N, K; cloned: the queue moves on before the backward pass
        logits = torch.cat([positive, negative], 1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


class MomentumEncoder(nn.Module):
    """A copy of modules that follows them without gradient: theta_k <- m theta_k + (1 - m) theta_q (eq. 2).

    Shuffled batch normalisation (section 3.3): the global batch is dealt at random into `groups`, each
    encoded, and so normalised, by itself, and put back in order. A key then shares its statistics with other
    images than its query, as on the authors' 8 GPUs, and statistics do not give the pair away. Each of
    several ranks is sent all images and encodes every world-th group; codes are alike on all ranks. Buffers
    are the copy's own, as in the authors' code."""

    def __init__(self, modules: Sequence[nn.Module], encode: Encode, momentum: float, groups: int) -> None:
        super().__init__()
        self.copies = nn.ModuleList(copy.deepcopy(module).requires_grad_(False) for module in modules)
        self.encode, self.momentum, self.groups = encode, momentum, groups

    @torch.no_grad()
    def follow(self, modules: Sequence[nn.Module]) -> None:
        for own, followed in zip(self.copies, modules, strict=True):
            for key, query in zip(own.parameters(), followed.parameters(), strict=True):
                key.lerp_(query, 1 - self.momentum)

    @torch.no_grad()
    def forward(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """(B, 3, S, S) images of this rank -> codes of the images of all ranks."""
        part, images = batch_part(), gather(images)
        order = torch.randperm(len(images), generator=generator, device=images.device)
        count = group_count(self.groups, len(images))
        if count < part.world:
            problem = f"{count} groups of images for {part.world} processes"
            raise error_of_all(f"setting 'groups' of the method: {problem}; raise it or the batch")
        places = order.tensor_split(count)[part.rank :: part.world]
        encoded = [self.encode(self.copies, images[place]) for place in places]
        codes = [torch.cat(own) for own in zip(*encoded, strict=True)]
        where, size = torch.cat(places), len(images)
        placed = [own.new_zeros(size, *own.shape[1:]).index_copy(0, where, own) for own in codes]
        return tuple(map(sum_over_ranks, placed))  # the other ranks' are zero: sums are exact


class Queue(nn.Module):
    """The last K keys, a ring; at first random unit vectors, as in the authors' code."""

    def __init__(self, size: int, dim: int, batch: int, setting: str) -> None:
        super().__init__()
        if size < batch:
            problem = f"a queue of {size} is shorter than a batch of {batch}"
            raise InputError(f"setting {setting!r}: {problem}; lengthen it")
        self.register_buffer("keys", F.normalize(torch.randn(size, dim), dim=1))  # K, D
        self.register_buffer("next", torch.zeros((), dtype=torch.long))  # the row to write first

    @torch.no_grad()
    def push(self, keys: Tensor) -> None:
        """(N, D) keys, N <= K, take the place of the N oldest."""
        rows = (self.next + torch.arange(len(keys), device=keys.device)) % len(self.keys)
        self.keys.index_copy_(0, rows, keys)
        self.next.copy_((self.next + len(keys)) % len(self.keys))
