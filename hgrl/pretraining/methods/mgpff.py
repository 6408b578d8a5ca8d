"""mgPFF (Kong and Fowlkes 2019): multigrid predictive filter flow, learnt by reconstructing a frame."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgrl.core.data_settings import AtLeastOne, NotNegative, Positive, Section
from hgrl.core.settings import Settings
from hgrl.data.normalise import normalise
from hgrl.pretraining.methods.clip_method import ClipMethod
from hgrl.pretraining.methods.matching import conv, correlation, frames_of, pairs_of, resized_flow, warped
from hgrl.sampling.views import Batch

REACH = 5  # filters are 11 x 11
SIDE = 2 * REACH + 1
CHARBONNIER = 1e-3  # of colours in [0, 1]


class MGPFFSettings(Section):
    width: AtLeastOne = 16  # channels of the first convolution
    # frames are shrunk by these in turn; the authors' end at 2, as ours where frames are as large
    scales: tuple[AtLeastOne, ...] = (32, 16, 8, 4, 2)
    smoothness: NotNegative = 0.02
    consistency: NotNegative = 0.1
    temperature: Positive = 0.07  # of the features' cosines in a filter


@dataclass(frozen=True)
class FilterFlow:
    """How one frame is made of another: looked up along a flow, then filtered; on a grid of some stride."""

    flow: Tensor  # (B, 2, h, w) pixels of the grid, from the coarser scales
    filters: Tensor  # (B, 121, h, w), of sum 1 over the 121
    stride: int

    @property
    def total(self) -> Tensor:
        """(B, 2, h, w) pixels of the grid: the flow and the filters' expected displacement together."""
        own = expected_displacement(self.filters)
        return own + warped(self.flow, own)

    def __call__(self, layers: Tensor) -> Tensor:
        """Layers (B, C, H, W) of the other frame, H and W `stride` times the grid's -> of this one."""
        size = layers.shape[-2:]
        filters = F.interpolate(self.filters, size, mode="nearest-exact")
        return filtered(warped(layers, resized_flow(self.flow, size)), filters, self.stride)


class MGPFF(ClipMethod):
    """Per-pixel filters from the coarsest scale to the finest, by one network for all scales.

    At each scale the other frame is first looked up along the flow that the coarser filters add up to. The
    loss of a scale has the filtered and the warped frame's Charbonnier distance from the true one, the
    smoothness of the filters' expected displacement, and how far flows there and back are from cancelling
    out. Both directions are learnt. As the authors' code, a scale's loss does not reach the coarser ones.
    Differs: filters begin with the features' cosines at the 121 places, to which the network adds."""

    own = ("mgpff", MGPFFSettings)
    layers = ()

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        width = self.mgpff.width
        self.encoder = nn.Sequential(
            conv(3, width, 5), conv(width, 2 * width, 3), conv(2 * width, 2 * width, 3)
        )
        self.features = nn.Conv2d(2 * width, 2 * width, 3, padding=1)
        self.join = nn.Sequential(conv(4 * width, 2 * width, 3), conv(2 * width, 2 * width, 3))
        self.head = nn.Conv2d(2 * width, SIDE**2, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        frames, others = pairs_of(batch.clips)
        frames, others = torch.cat([frames, others]), torch.cat([others, frames])  # both directions
        total, size = 0.0, frames.shape[-2:]
        for step in self.filter_flows(frames, others):
            frame, other = (shrunk(images.float() / 255, step.stride) for images in (frames, others))
            looked_up = warped(other, step.flow)
            own = expected_displacement(step.filters)
            sharp = charbonnier(filtered(looked_up, step.filters) - frame)
            total = total + sharp + charbonnier(warped(looked_up, own) - frame)
            total = total + self.mgpff.smoothness * roughness(own)
            there, back = step.total, step.total.roll(len(frames) // 2, 0)
            cycle = there + warped(back, there)
            total = total + self.mgpff.consistency * charbonnier(cycle) * step.stride / max(size)
        return total, {"reconstruction": sharp.detach()}

    def filter_flows(self, frames: Tensor, others: Tensor) -> list[FilterFlow]:
        """(B, 3, H, W) uint8 twice -> how each frame is made of the other, from the coarsest scale on."""
        found, flow = [], None
        for stride in self.mgpff.scales:
            frame, other = (shrunk(normalise(images), stride) for images in (frames, others))
            if flow is None:
                flow = torch.zeros(len(frame), 2, *frame.shape[-2:], device=frame.device)
            else:
                flow = resized_flow(flow, frame.shape[-2:])
            found.append(FilterFlow(flow, self.filters(frame, warped(other, flow)), stride))
            flow = found[-1].total.detach()
        return found

    def filters(self, frame: Tensor, other: Tensor) -> Tensor:
        """(B, 121, h, w) filters that make one normalised image of the other, from one network for both."""
        shallow = self.encoder(torch.cat([frame, other]))
        one, another = F.normalize(self.features(shallow).float(), dim=1).chunk(2)
        cosines = correlation(one, another, REACH) * one.shape[1]
        added = self.head(self.join(torch.cat(shallow.chunk(2), 1))).float()
        return torch.softmax(cosines / self.mgpff.temperature + added, 1)

    @torch.no_grad()
    def flow(self, frame: np.ndarray, earlier: np.ndarray) -> np.ndarray:
        """(h, w, 3) uint8 twice -> (h, w, 2) float32: what `frame` shows at p is at p + flow of `earlier`."""
        finest = self.filter_flows(*frames_of(self, frame, earlier))[-1]
        return resized_flow(finest.total, frame.shape[:2])[0].permute(1, 2, 0).cpu().numpy()

    @torch.no_grad()
    def warp(self, frame: np.ndarray, earlier: np.ndarray, layers: np.ndarray) -> np.ndarray:
        """Layers (n, h, w) float32 of the earlier frame -> filtered as that frame is to make this one."""
        images = frames_of(self, frame, earlier)
        finest = self.filter_flows(*images)[-1]
        return finest(torch.from_numpy(layers).to(images[0].device)[None])[0].cpu().numpy()


def filtered(layers: Tensor, filters: Tensor, spread: int = 1) -> Tensor:
    """Each pixel's own filter applied: sum over d of filters[d](p) layers(p + spread d).

    layers: (B, C, h, w), the border beyond; filters: (B, 121, h, w), d from (-5, -5) on, row by row."""
    height, width = layers.shape[-2:]
    padded = F.pad(layers, [REACH * spread] * 4, mode="replicate")
    total = torch.zeros_like(layers)
    for place, weight in enumerate(filters.unbind(1)):
        y, x = (spread * side for side in divmod(place, SIDE))
        total = total + weight[:, None] * padded[:, :, y : y + height, x : x + width]
    return total


def expected_displacement(filters: Tensor) -> Tensor:
    """(B, 121, h, w) -> (B, 2, h, w): the mean of (x, y) under each pixel's filter."""
    reach = torch.arange(-REACH, REACH + 1, device=filters.device, dtype=filters.dtype)
    places = torch.stack(torch.meshgrid(reach, reach, indexing="xy")).flatten(1)  # 2, 121
    return torch.einsum("kp,bphw->bkhw", places, filters)


def shrunk(images: Tensor, stride: int) -> Tensor:
    """Means of stride x stride pixels, (B, C, H, W) -> (B, C, H / stride, W / stride), rounded up."""
    return F.avg_pool2d(images, stride, ceil_mode=True)


def charbonnier(difference: Tensor) -> Tensor:
    return (difference.square() + CHARBONNIER**2).sqrt().mean()


def roughness(flow: Tensor) -> Tensor:
    """L1 differences of neighbours, per pixel and direction; 0 for a single pixel."""
    return (flow.diff(dim=-1).abs().sum() + flow.diff(dim=-2).abs().sum()) / flow.numel()
