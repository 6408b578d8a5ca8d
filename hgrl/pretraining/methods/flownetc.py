"""FlowNetC-small: FlowNetC (Dosovitskiy et al., ICCV 2015) at small width, taught flow by stills in motion.

It stands for FlowNet2 (Ilg et al., CVPR 2017), which stacks five such networks of over a hundred times its
parameters and trains them on rendered scenes as well."""

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgrl.core.data_settings import AtLeastOne, Section
from hgrl.core.settings import Settings
from hgrl.data.normalise import normalise
from hgrl.pretraining.methods.clip_method import ClipMethod
from hgrl.pretraining.methods.matching import conv, correlation, frames_of, pairs_of
from hgrl.sampling.views import Batch

UNIT = 8.0  # px of flow that predictions count in; 20 in the paper, whose images are larger
TEMPERATURE = 0.07  # of the cosines of cells
STRIDE = 32  # of the coarsest prediction
# of the mean end-point error at strides 32 to 2: what the paper's sums over pixels, .32 to .005, come to
WEIGHTS = (0.25, 0.25, 0.25, 0.5, 1.0)


class FlowNetCSettings(Section):
    width: AtLeastOne = 16  # channels of the first convolution; 64 in the paper
    reach: AtLeastOne = 8  # cells of 4 px that the correlation looks around; 20 of 8 px in the paper


class FlowNetC(ClipMethod):
    """The flow from each frame of a clip to the next; the loss is the end-point error at five scales.

    Siamese convolutions, the correlation of their outputs, a contracting part, and a refinement that predicts
    flow at every scale from the coarser prediction and a skip link. All of it one stage earlier than in the
    paper (correlation at stride 4, flow at 2), as images are a quarter of its; with batch normalisation, and
    a softmax of the correlations: of plain ones it learnt nothing in mini's 300 steps."""

    own = ("flownetc", FlowNetCSettings)
    needs_flow = True
    layers = ()

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        width, cost = self.flownetc.width, (2 * self.flownetc.reach + 1) ** 2
        self.first = conv(3, width, 7, 2)
        self.second = nn.Sequential(conv(width, 2 * width, 5, 2), conv(2 * width, 4 * width, 5))
        self.direct = conv(4 * width, width, 1)  # of the first image, beside the costs
        after = [cost + width, 4 * width, 8 * width, 8 * width, 16 * width]
        strides = (1, 2, 2, 2)  # outputs at strides 4, 8, 16 and 32
        stages = [
            nn.Sequential(conv(a, b, 3, s), conv(b, b, 3))
            for (a, b), s in zip(pairwise(after), strides, strict=True)
        ]
        self.stages = nn.ModuleList(stages)
        skips = [8 * width, 8 * width, 4 * width, width]  # of strides 16, 8, 4 and 2
        outs = [8 * width, 4 * width, 2 * width, width]
        ins = [16 * width, *(out + skip + 2 for out, skip in zip(outs, skips, strict=True))]
        self.enlarge = nn.ModuleList(deconv(a, b) for a, b in zip(ins, outs, strict=False))
        self.predict = nn.ModuleList(nn.Conv2d(a, 2, 3, padding=1) for a in ins)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        true = batch.flow.flatten(0, 1)  # B (T - 1), 2, S, S
        found = self.predictions(*pairs_of(batch.clips))
        with torch.autocast(true.device.type, enabled=False):
            errors = [end_point_error(flow.float(), true, STRIDE >> k) for k, flow in enumerate(found)]
        loss = sum(weight * error for weight, error in zip(WEIGHTS, errors, strict=True))
        return loss, {"end_point_error": errors[-1].detach()}

    def predictions(self, images: Tensor, others: Tensor) -> list[Tensor]:
        """(N, 3, H, W) uint8 images and their successors -> flow (N, 2, h, w) in pixels, at strides 32 to 2.

        Sides are padded to multiples of 32, by their border."""
        height, width = images.shape[-2:]
        padding = (0, -width % STRIDE, 0, -height % STRIDE)
        both = F.pad(normalise(torch.cat([images, others])), padding, mode="replicate")
        shallow = self.first(both)
        one, other = self.second(shallow).chunk(2)
        skips = [shallow.chunk(2)[0]]
        deep = torch.cat([self.direct(one), self.matches(one, other)], 1)
        for stage in self.stages:
            deep = stage(deep)
            skips.append(deep)
        state, found = skips.pop(), []
        for predict, enlarge in zip(self.predict, [*self.enlarge, None], strict=True):
            flow = predict(state)
            found.append(UNIT * flow)
            if enlarge is not None:
                finer = F.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=False)
                state = torch.cat([skips.pop(), enlarge(state), finer], 1)
        return found

    def matches(self, one: Tensor, other: Tensor) -> Tensor:
        """(B, K, h, w): for every cell a softmax over the places within reach, scaled up."""
        one, other = (F.normalize(features.float(), dim=1) for features in (one, other))
        cosines = correlation(one, other, self.flownetc.reach) * one.shape[1]
        return torch.softmax(cosines / TEMPERATURE, 1) * cosines.shape[1] ** 0.5

    @torch.no_grad()
    def flow(self, frame: np.ndarray, earlier: np.ndarray) -> np.ndarray:
        """(h, w, 3) uint8 twice -> (h, w, 2) float32: what `frame` shows at p is at p + flow of `earlier`."""
        finest = self.predictions(*frames_of(self, frame, earlier))[-1]
        whole = F.interpolate(finest, scale_factor=2, mode="bilinear", align_corners=False)[0]
        return whole[:, : frame.shape[0], : frame.shape[1]].permute(1, 2, 0).float().cpu().numpy()


def end_point_error(flow: Tensor, true: Tensor, stride: int) -> Tensor:
    """Mean distance of a flow (N, 2, h, w) from the true one (N, 2, H, W), averaged over cells of a stride.

    Cells beyond H or W are padding, and left out."""
    coarse = F.avg_pool2d(true, stride, ceil_mode=True)
    return (flow[..., : coarse.shape[-2], : coarse.shape[-1]] - coarse).norm(dim=1).mean()


def deconv(inputs: int, outputs: int) -> nn.Sequential:
    layer = nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.1))
