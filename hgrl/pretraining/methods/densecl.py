"""DenseCL (Wang et al. 2021): MoCo's contrast for the image and, beside it, for each cell and its match in
the other view.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgrl.core.settings import Settings
from hgrl.pretraining.methods.base import Method
from hgrl.pretraining.methods.moco import MomentumEncoder, Queue, image_codes, info_nce
from hgrl.pretraining.network import normalise
from hgrl.pretraining.ranks import share
from hgrl.sampling.views import Batch


class DenseCL(Method):
    """Two heads on the last stage, one of the image and one of each cell, two queues, one key encoder.

    The authors' last stage has 7 x 7 cells at stride 32; ours ends at stride 16 and is pooled to the same
    `grid`. Optimiser, batch and augmentation are the common loop's. The hypercolumn and the embedding are not
    trained: read the backbone.
    """

    needs_trees = False
    sections = ("densecl",)
    layers = ("backbone",)

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        own = self.densecl = settings.densecl
        channels = self.network.channels["backbone"]
        self.image_head = nn.Sequential(
            nn.Linear(channels, own.hidden), nn.ReLU(inplace=True), nn.Linear(own.hidden, own.dim)
        )
        self.cell_head = nn.Sequential(
            nn.Conv2d(channels, own.hidden, 1), nn.ReLU(inplace=True), nn.Conv2d(own.hidden, own.dim, 1)
        )
        self.key_encoder = MomentumEncoder(self._followed(), self._encode, own.momentum, own.groups)
        self.image_queue = Queue(own.queue, own.dim, settings.pretrain.batch, "densecl.queue")
        self.cell_queue = Queue(own.queue, own.dim, settings.pretrain.batch, "densecl.queue")

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        features, image, cells, _ = self._encode(self._followed(), batch.images[0])
        self.key_encoder.follow(self._followed())
        all_keys = self.key_encoder(batch.images[1], batch.generator)
        key_features, key_image, key_cells, _ = (share().of(codes) for codes in all_keys)
        image_loss = info_nce(image, key_image, self.image_queue.keys, self.densecl.temperature)
        matched = matched_cells(features, key_features, key_cells)
        cell_loss = info_nce(
            cells.flatten(0, 1), matched.flatten(0, 1), self.cell_queue.keys, self.densecl.temperature
        )
        self.image_queue.push(all_keys[1])
        self.cell_queue.push(all_keys[3])
        loss = (1 - self.densecl.cell_weight) * image_loss + self.densecl.cell_weight * cell_loss
        return loss, {"image_loss": image_loss.detach(), "cell_loss": cell_loss.detach()}

    def _followed(self) -> tuple[nn.Module, ...]:
        return self.network.backbone, self.image_head, self.cell_head

    def _encode(self, modules: Sequence[nn.Module], images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        backbone, image_head, cell_head = modules
        return dense_codes(backbone(normalise(images))[-1], image_head, cell_head, self.densecl.grid)


def dense_codes(
    features: Tensor, image_head: nn.Module, cell_head: nn.Module, grid: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(B, C, h, w) -> unit vectors, float32: features (B, S, C), image (B, D), cells (B, S, D), mean of the
    cells (B, D).

    S = grid**2 cells, or h * w where that is less.
    """
    height, width = features.shape[-2:]
    pooled = F.adaptive_avg_pool2d(features, (min(grid, height), min(grid, width)))
    cells = cell_head(pooled).float().flatten(2).mT  # B, S, D
    unit_features = F.normalize(pooled.float().flatten(2).mT, dim=2)
    return (
        unit_features,
        image_codes(features, image_head),
        F.normalize(cells, dim=2),
        F.normalize(cells.mean(1), dim=1),
    )


@torch.no_grad()
def matched_cells(features: Tensor, key_features: Tensor, key_cells: Tensor) -> Tensor:
    """For each cell the key (B, S, D) of the other view's cell whose backbone feature (B, S, C) is most alike
    (section 3.3).
    """
    with torch.autocast(features.device.type, enabled=False):
        match = (features @ key_features.mT).argmax(2)  # B, S
    return key_cells.gather(1, match.unsqueeze(-1).expand(-1, -1, key_cells.shape[-1]))
