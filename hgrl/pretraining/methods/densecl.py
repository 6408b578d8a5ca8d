"""DenseCL (Wang et al. 2021): MoCo's contrast of images, and of cells with their match in the other view."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from hgrl.core.data_settings import AtLeastOne, Fraction, Positive, Range, Section
from hgrl.core.settings import Settings, ViewSettings
from hgrl.data.normalise import normalise
from hgrl.pretraining.methods.base import Method
from hgrl.pretraining.methods.contrast import MomentumEncoder, Queue, image_codes, in_groups, info_nce
from hgrl.pretraining.ranks import batch_part
from hgrl.sampling.views import Batch


class MoCoV2Views(ViewSettings):
    """The augmentation of MoCo, version 2, and of DenseCL's code."""

    crop_area: Range = (0.2, 1.0)
    jitter: Fraction = 0.8
    hue: float = Field(0.1, ge=0, le=0.5)
    greyscale: Fraction = 0.2
    blur: Fraction = 0.5


class DenseCLSettings(Section):
    momentum: Fraction = 0.999  # the paper's section 4, and its code
    queue: AtLeastOne = 65_536
    temperature: Positive = 0.2
    dim: AtLeastOne = 128
    hidden: AtLeastOne = 2048
    cell_weight: Fraction = 0.5  # lambda
    grid: AtLeastOne = 7  # cells per side that are contrasted: the authors' last stage at 224 px
    groups: AtLeastOne = 8  # as for MoCo
    augment: MoCoV2Views | None = MoCoV2Views()  # None: as the profile has it


class DenseCL(Method):
    """Two heads on the last stage, for the image and for each cell, two queues, one key encoder.

    The authors' last stage has 7 x 7 cells at stride 32; ours ends at stride 16 and is pooled to that `grid`.
    Optimiser and batch are the profile's. Only the backbone is trained."""

    needs_trees = False
    own = ("densecl", DenseCLSettings)
    layers = ("backbone",)

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        own, channels, relu = self.densecl, self.network.channels["backbone"], nn.ReLU(inplace=True)
        hidden, dim = own.hidden, own.dim
        self.image_head = nn.Sequential(nn.Linear(channels, hidden), relu, nn.Linear(hidden, dim))
        self.cell_head = nn.Sequential(nn.Conv2d(channels, hidden, 1), relu, nn.Conv2d(hidden, dim, 1))
        self.key_encoder = MomentumEncoder(self._followed(), self._encode, own.momentum, own.groups)
        queue = own.queue, dim, settings.pretrain.batch, "methods.densecl.queue"
        self.image_queue, self.cell_queue = Queue(*queue), Queue(*queue)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        own, part = self.densecl, batch_part()
        maps = in_groups(lambda own: self.network.backbone(normalise(own))[-1], batch.images[0], own.groups)
        features, image, cells, _ = dense_codes(maps, self.image_head, self.cell_head, own.grid)
        self.key_encoder.follow(self._followed())
        all_keys = self.key_encoder(batch.images[1], batch.generator)
        key_features, key_image, key_cells, _ = (part.of(codes) for codes in all_keys)
        image_loss = info_nce(image, key_image, self.image_queue.keys, own.temperature)
        matched = matched_cells(features, key_features, key_cells).flatten(0, 1)
        cell_loss = info_nce(cells.flatten(0, 1), matched, self.cell_queue.keys, own.temperature)
        self.image_queue.push(all_keys[1])
        self.cell_queue.push(all_keys[3])
        loss = (1 - own.cell_weight) * image_loss + own.cell_weight * cell_loss
        return loss, {"image_loss": image_loss.detach(), "cell_loss": cell_loss.detach()}

    def _followed(self) -> tuple[nn.Module, ...]:
        return self.network.backbone, self.image_head, self.cell_head

    def _encode(self, modules: Sequence[nn.Module], images: Tensor) -> tuple[Tensor, ...]:
        backbone, image_head, cell_head = modules
        return dense_codes(backbone(normalise(images))[-1], image_head, cell_head, self.densecl.grid)


def dense_codes(maps: Tensor, image_head: nn.Module, cell_head: nn.Module, grid: int) -> tuple[Tensor, ...]:
    """(B, C, h, w) -> unit float32: features (B, S, C), image (B, D), cells (B, S, D), their mean (B, D).

    S = grid**2 cells, or fewer where h or w is less than `grid`."""
    height, width = maps.shape[-2:]
    pooled = F.adaptive_avg_pool2d(maps, (min(grid, height), min(grid, width)))
    cells = cell_head(pooled).float().flatten(2).mT  # B, S, D
    unit, image = F.normalize(pooled.float().flatten(2).mT, dim=2), image_codes(maps, image_head)
    return unit, image, F.normalize(cells, dim=2), F.normalize(cells.mean(1), dim=1)


@torch.no_grad()
def matched_cells(features: Tensor, key_features: Tensor, key_cells: Tensor) -> Tensor:
    """For each cell the key (B, S, D) of the other view's cell of most similar features (section 3.3)."""
    with torch.autocast(features.device.type, enabled=False):
        match = (features @ key_features.mT).argmax(2)  # B, S
    return key_cells.gather(1, match.unsqueeze(-1).expand(-1, -1, key_cells.shape[-1]))
