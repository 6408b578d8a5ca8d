"""CRW (Jabri et al. 2020): a patch walks through the frames of a clip and back to where it began."""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from hgrl.core.data_settings import AtLeastOne, Fraction, Positive, Section
from hgrl.core.settings import Settings
from hgrl.data.normalise import normalise
from hgrl.pretraining.methods.clip_method import ClipMethod
from hgrl.pretraining.ranks import batch_part
from hgrl.sampling.views import Batch

NOWHERE = 1e-20  # the authors' probability of an edge that is not there: log stays finite


class CRWSettings(Section):
    temperature: Positive = 0.07  # its paper's; its authors' code evaluates at 0.05
    edge_dropout: Fraction = 0.1  # the paper's section 2.4, and the released weights'
    grid: AtLeastOne = 7  # patches along a side; the paper's 49 of 64x64 in 256x256, which overlap by half
    patch: Positive = 0.25  # of the frame's side
    dim: AtLeastOne = 128


class CRW(ClipMethod):
    """Nodes are patches, each encoded by itself: padding tells no node where in the frame it is.

    Patches are pooled from Res4 without its stride and go through one linear head, which tracking leaves out,
    as in the authors' code. Not done: the jitter of each patch's size, dropout of features, test-time
    adaptation."""

    own = ("crw", CRWSettings)

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.head = nn.Linear(self.network.channels["backbone"], self.crw.dim)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        own, frames = self.crw, normalise(batch.flat_images)
        patches = cut_patches(frames, own.grid, max(1, round(own.patch * frames.shape[-1])))
        nodes = self.head(self.fine_features(patches.flatten(0, 1)).mean((2, 3))).float()
        nodes = F.normalize(nodes, dim=1).view(*batch.images.shape[:2], -1, own.dim)  # T, B, N, D
        return walk_loss(nodes, own.temperature, own.edge_dropout, batch.generator)


def cut_patches(frames: Tensor, grid: int, side: int) -> Tensor:
    """(M, 3, H, W) -> (M, grid * grid, 3, side, side): patches, evenly from edge to edge, row by row."""
    rows, columns = (
        torch.linspace(0, length - side, grid, device=frames.device).round().long()[:, None]
        + torch.arange(side, device=frames.device)
        for length in frames.shape[-2:]
    )
    patches = frames[:, :, rows[:, None, :, None], columns[None, :, None, :]]  # M, 3, grid, grid, side, side
    return patches.flatten(2, 3).transpose(1, 2)


def walk_loss(
    nodes: Tensor, temperature: float, dropout: float, generator: Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean cross entropy of walks from frame 0 to frame k and back to their first node, k = 2 .. T - 1.

    nodes: (T, B, N, D) unit vectors. As in the authors' code: a step goes by the softmax of cosines over the
    temperature, edges are dropped at random, each direction's by itself, and walks of one step do not count
    unless there are two frames alone. Also how often a walk of full length most likely comes home."""
    with torch.autocast(nodes.device.type, enabled=False):
        cosines = nodes[:-1] @ nodes[1:].mT  # T - 1, B, N, N
        there = transitions(cosines, temperature, dropout, generator)
        back = transitions(cosines.mT, temperature, dropout, generator)
        home = torch.arange(nodes.shape[2], device=nodes.device).expand(nodes.shape[1:3])
        walk, losses = there[0], []
        for k in range(min(1, len(there) - 1), len(there)):
            walk = walk @ there[k] if k else walk
            returned = walk
            for step in reversed(range(k + 1)):
                returned = returned @ back[step]
            losses.append(F.nll_loss((returned + NOWHERE).log().flatten(0, 1), home.flatten()))
    at_home = (returned.argmax(-1) == home).float().mean()
    return torch.stack(losses).mean(), {"walks_home": at_home.detach()}


def transitions(cosines: Tensor, temperature: float, dropout: float, generator: Generator) -> Tensor:
    """(T - 1, B, N, N) cosines -> row-stochastic ones, without a random share `dropout` of the edges."""
    part, (steps, batch, *edges) = batch_part(), cosines.shape
    drawn = torch.rand(batch * part.world, steps, *edges, generator=generator, device=cosines.device)
    dropped = part.of(drawn).transpose(0, 1) < dropout
    return (cosines / temperature).masked_fill(dropped, -1e20).softmax(-1)
