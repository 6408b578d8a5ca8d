"""Video Colorization (Vondrick et al. 2018): a grey frame copies the colours of frames before."""

from collections.abc import Iterable

import faiss
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from hgrl.core.data_settings import AtLeastOne, Positive, Section
from hgrl.core.settings import Settings
from hgrl.data.normalise import grey
from hgrl.pretraining.methods.clip_method import ClipMethod
from hgrl.pretraining.ranks import from_first
from hgrl.sampling.views import Batch

ITERATIONS = 20  # of K-means
# linear RGB -> XYZ (IEC 61966-2-1), each row over the white point's (D65)
TO_XYZ = ((0.433953, 0.376219, 0.189828), (0.212671, 0.715160, 0.072169), (0.017758, 0.109477, 0.872766))


class ColorizationSettings(Section):
    colours: AtLeastOne = 16  # the paper's section 3.3
    temperature: Positive = 0.07  # of cosines; the paper's inner products have no norm, and none


class Colorization(ClipMethod):
    """A cell of the last frame points to cells of the T - 1 before (three, in the paper), by grey alone.

    It compares the very features that tracking reads, Res4 without its stride. The authors add five layers of
    3-D convolution to 64 channels, and train on 256x256 at 6 frames per second."""

    own = ("colorization", ColorizationSettings)
    grey_input = True
    begins = "run"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.register_buffer("palette", torch.zeros(self.colorization.colours, 2))  # a and b of each colour

    def begin(self, images: Iterable[Tensor], generator: Generator) -> list[nn.Parameter]:
        """The palette, of the colours of all images' cells."""
        cells = (F.avg_pool2d(lab_ab(batch), 8).movedim(1, -1).flatten(0, 2).cpu() for batch in images)
        self.palette.copy_(from_first(lambda: palette(torch.cat(list(cells)), len(self.palette))))
        return []

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        features = self.frame_features(batch, grey(batch.images))  # T, B, C, g, g
        colours = F.adaptive_avg_pool2d(lab_ab(batch.flat_images), features.shape[-1]).flatten(2).mT
        nearest = (colours.unsqueeze(2) - self.palette).square().sum(-1).argmin(-1)  # T * B, g * g
        cells = F.normalize(features.flatten(3).mT.float(), dim=-1)  # T, B, g * g, C
        given = nearest.unflatten(0, cells.shape[:2]), len(self.palette), self.colorization.temperature
        return copy_loss(cells, *given)


def copy_loss(
    cells: Tensor, colours: Tensor, count: int, temperature: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """-log of the weight that the cells before give a cell's own colour, mean over the last frame's cells.

    cells: (T, B, N, C) unit vectors; colours: (T, B, N) int64 in [0, count). Equations 1 and 2: weights are a
    softmax over all cells of all frames before."""
    with torch.autocast(cells.device.type, enabled=False):
        sources = cells[:-1].transpose(0, 1).flatten(1, 2)  # B, (T - 1) * N, C
        weights = (cells[-1] @ sources.mT / temperature).softmax(-1)  # B, N, (T - 1) * N
        given = colours[:-1].transpose(0, 1).flatten(1).unsqueeze(-1)
        known = (given == torch.arange(count, device=given.device)).to(weights.dtype)  # one_hot would wait
        copied = weights @ known  # B, N, count
    right = (copied.argmax(-1) == colours[-1]).float().mean()
    own = copied.gather(-1, colours[-1].unsqueeze(-1))
    return -(own + 1e-8).log().mean(), {"right_colours": right.detach()}


def lab_ab(images: Tensor) -> Tensor:
    """(N, 3, H, W) uint8 sRGB -> (N, 2, H, W) float32: a and b of CIE Lab, about -110 to 110."""
    rgb = images.float() / 255
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    # weighed one by one: torch.tensor would copy from the host, and wait
    xyz = torch.stack([sum(w * c for w, c in zip(row, linear.unbind(1), strict=True)) for row in TO_XYZ], 1)
    x, y, z = torch.where(xyz > 0.008856, xyz.clamp_min(1e-9) ** (1 / 3), 7.787 * xyz + 16 / 116).unbind(1)
    return torch.stack([500 * (x - y), 200 * (y - z)], 1)


def palette(colours: Tensor, count: int) -> Tensor:
    """(N, 2) -> (count, 2): K-means by faiss, from a fixed start, on a sample. N is at least `count`."""
    faiss.omp_set_num_threads(torch.get_num_threads())
    kmeans = faiss.Kmeans(2, count, niter=ITERATIONS, seed=0, min_points_per_centroid=1)
    kmeans.train(colours.numpy())
    return torch.from_numpy(kmeans.centroids)
