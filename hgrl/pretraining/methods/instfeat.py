"""InstFeat (Ye et al. 2019): unsupervised embedding by invariant and spreading instance features."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgrl.core.data_settings import AtLeastOne, Positive, Section
from hgrl.core.settings import Settings
from hgrl.data.normalise import normalise
from hgrl.pretraining.methods.base import Method
from hgrl.pretraining.methods.contrast import InstDiscViews, image_codes
from hgrl.pretraining.ranks import gather, rank
from hgrl.sampling.views import Batch


class InstFeatSettings(Section):
    temperature: Positive = 0.1  # the paper's section 4
    dim: AtLeastOne = 128
    augment: InstDiscViews | None = InstDiscViews()  # None: as the profile has it


class InstFeat(Method):
    """A siamese network without memory: each view is told from all other views of the batch.

    One linear head on the pooled last stage; only the backbone is trained."""

    needs_trees = False
    own = ("instfeat", InstFeatSettings)
    layers = ("backbone",)

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.head = nn.Linear(self.network.channels["backbone"], self.instfeat.dim)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        codes = image_codes(self.network.backbone(normalise(batch.flat_images))[-1], self.head)
        first, second = codes.detach().chunk(2)
        similarity = (first * second).sum(1).mean()
        return instance_loss(codes, self.instfeat.temperature), {"positive_similarity": similarity}


def instance_loss(codes: Tensor, temperature: float) -> Tensor:
    """Equation 6, averaged over views: -log P(own other view) - sum of log(1 - P(other image's view)).

    codes: (2 B, D) unit vectors, second views after first ones. P is a softmax over all other views of the
    global batch, which count as constant, as in the authors' code (`BatchAverage.py`); the paper's text has
    the first views alone in the softmax."""
    count, everything = len(codes), gather(codes)  # 2 B, D; 2 B per rank, D
    row = torch.arange(count, device=codes.device).unsqueeze(1)  # 2 B, 1
    own, partner = rank() * count + row, rank() * count + row.roll(count // 2, 0)
    with torch.autocast(codes.device.type, enabled=False):
        logits = (codes @ everything.T / temperature).scatter(1, own, -torch.inf)
    log_p = F.log_softmax(logits, 1)
    others = log_p.exp().scatter(1, partner, 0.0)  # P of itself is 0 already
    repelled = torch.log1p(-others.clamp_max(1 - 1e-6))  # P = 1 would give -inf
    return -(log_p.gather(1, partner).mean() + repelled.sum() / count)
