"""CycleTime (Wang, Jabri and Efros 2019): a patch is found in frames before, and found again from there."""

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from hgrl.core.data_settings import NotNegative, Positive, Section
from hgrl.core.settings import Settings
from hgrl.data.normalise import normalise
from hgrl.pretraining.methods.clip_method import ClipMethod
from hgrl.pretraining.ranks import batch_part
from hgrl.sampling.views import Batch

SPREAD = (
    (20 + 1) / (20 - 1) / 3 * 2
)  # mean squared length of the points of the authors' grid, 20 x 20 over [-1, 1]^2


class CycleTimeSettings(Section):
    temperature: Positive = 512**-0.5  # this and the weights are the authors' code's
    cycle_weight: NotNegative = 0.02  # of the long cycles; next to the inliers' 1
    skip_weight: NotNegative = 0.1
    rotation: NotNegative = 45.0  # degrees: the patch is turned by at most this


class CycleTime(ClipMethod):
    """The last frame's patch, of about a third of the side, is followed backwards through the T - 1 before.

    A place is (x, y, angle), the middle in [-1, 1]. The features compared are those that tracking reads, Res4
    without its stride; the authors put a 1x1 convolution between. Not done: patches from where frames differ
    most, a target some frames after the others, clipped gradients."""

    own = ("cycletime", CycleTimeSettings)

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        grid = -(-settings.augment.crop_size // 8)
        self.patch = max(2, round(grid / 3))  # cells along a side
        self.share = self.patch / grid
        kernel = 1 + self.patch // 3  # the authors' 4 for 10 cells
        left = self.patch - 2 * (kernel - 1)
        slope = nn.LeakyReLU(0.1)
        convolutions = (
            nn.Conv2d(grid**2, 128, kernel, bias=False),
            slope,
            nn.Conv2d(128, 64, kernel, bias=False),
            slope,
        )
        self.regressor = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(64 * left**2, 3))
        nn.init.normal_(self.regressor[-1].weight, 0, 0.01)
        nn.init.zeros_(self.regressor[-1].bias)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        own, features = self.cycletime, self.frame_features(batch).float()  # T, B, C, g, g
        truth = self.draw_places(batch.images.shape[1], batch.generator)
        image = normalise(batch.images[-1])
        patch = self.fine_features(crop(image, truth, self.share, 8 * self.patch)).float()
        target, past = features[-1], features[:-1].flip(0)  # the nearest first
        cycles, skips, inliers, query, behind = [], [], [], patch, []
        for k, frame in enumerate(past):
            place, affinity = self.locate(patch, frame)  # in one leap there and back
            inliers.append(soft_inliers(affinity, place, self.share, frame.shape[-1]).mean())
            again, _ = self.locate(self.cut(frame, place), target)
            skips.append(place_loss(again, truth, self.share))
            query = self.cut(frame, self.locate(query, frame)[0])  # and frame by frame
            behind.append(frame)
            returning = query
            for later in behind[-2::-1] if k else []:
                returning = self.cut(later, self.locate(returning, later)[0])
            cycles.append(place_loss(self.locate(returning, target)[0], truth, self.share))
        cycle, skip, inlier = (torch.stack(terms).mean() for terms in (cycles, skips, inliers))
        loss = own.cycle_weight * cycle + own.skip_weight * skip - inlier
        return loss, {"cycle": cycle.detach(), "skip": skip.detach(), "inliers": inlier.detach()}

    def draw_places(self, count: int, generator: Generator) -> Tensor:
        """(count, 3) x, y and angle, such that the patch, not turned, is within the frame."""
        part, most = batch_part(), math.radians(self.cycletime.rotation)
        everywhere = torch.rand(count * part.world, 3, generator=generator, device=generator.device)
        x, y, angle = (2 * part.of(everywhere) - 1).unbind(1)
        return torch.stack([(1 - self.share) * x, (1 - self.share) * y, most * angle], 1)

    def locate(self, patch: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
        """Where a patch (B, C, p, p) is in a frame (B, C, g, g): places (B, 3), and the affinity.

        affinity: (B, g * g, p, p), for each of the patch's cells a softmax over the frame's."""
        cells, sought = (F.normalize(each, dim=1).flatten(2) for each in (frame, patch))
        with torch.autocast(patch.device.type, enabled=False):
            affinity = (cells.mT @ sought / self.cycletime.temperature).softmax(1)
        affinity = affinity.unflatten(2, patch.shape[-2:])
        return self.regressor(affinity).float(), affinity

    def cut(self, frame: Tensor, places: Tensor) -> Tensor:
        return crop(frame, places, self.share, self.patch)


def sampling_grid(places: Tensor, share: float, side: int) -> Tensor:
    """(B, side, side, 2) x and y in [-1, 1] of the frame: the cells of patches, `share` of its side large."""
    x, y, angle = places.unbind(1)
    cos, sin = share * angle.cos(), share * angle.sin()
    maps = torch.stack([torch.stack([cos, -sin, x], 1), torch.stack([sin, cos, y], 1)], 1)  # B, 2, 3
    return F.affine_grid(maps, [len(places), 1, side, side], align_corners=False)


def crop(frames: Tensor, places: Tensor, share: float, side: int) -> Tensor:
    """(B, C, H, W) -> (B, C, side, side), bilinear; what lies outside repeats the border."""
    grid = sampling_grid(places, share, side)
    return F.grid_sample(frames, grid, padding_mode="border", align_corners=False)


def place_loss(places: Tensor, truth: Tensor, share: float) -> Tensor:
    """Mean squared distance between a patch's points at two places, in units of half the frame's side.

    In closed form: of the middles, and what the turn adds to the authors' grid of points. (B, 3) each."""
    difference = places - truth
    turned = 2 * share**2 * SPREAD * (1 - difference[:, 2].cos())
    return (difference[:, :2].square().sum(1) + turned).mean()


def soft_inliers(affinity: Tensor, places: Tensor, share: float, grid: int) -> Tensor:
    """(B,) mean affinity of the patch's cells with those of the frame where the place puts them.

    affinity: (B, grid * grid, p, p), interpolated between cells; cells outside the frame do not count."""
    batch, side = len(affinity), affinity.shape[-1]
    maps = affinity.flatten(2).mT.reshape(-1, 1, grid, grid)  # one for each of the patch's cells
    at = sampling_grid(places, share, side).reshape(-1, 1, 1, 2)
    found, inside = (
        F.grid_sample(each, at, align_corners=False).view(batch, -1) for each in (maps, torch.ones_like(maps))
    )
    return found.sum(1) / inside.sum(1).clamp_min(1e-5)
