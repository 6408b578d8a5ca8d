"""The per-pixel contrastive objective: equation 1, and the field's -log form with a temperature."""

import torch
import torch.nn.functional as F
from torch import Tensor

from hgrl.core.settings import ObjectiveSettings
from hgrl.pretraining.ranks import batch_part, rows_of_ranks, sum_over_ranks, world
from hgrl.sampling.pixels import PixelSample

NO_NEGATIVE = -1e4  # a log-similarity that weighs nothing, and keeps gradients finite where -inf would not


def contrastive_loss(
    embedding: Tensor, sample: PixelSample, settings: ObjectiveSettings
) -> tuple[Tensor, dict[str, Tensor]]:
    """Equation 1 over the sampled pixels, as a loss to minimise.

    embedding: (V, B, D, h, w), not normalised; cosines are taken at the sampled cells alone, in float32.
    Returns a scalar and detached diagnostics. `ratio` is minus the mean of equation 1's terms, in [-1, 0];
    `log` is the mean of -log of the same terms. Both average over the positives that count; without any the
    loss is 0, not NaN. The denominator has the positive's own similarity alone, as in equation 1. The mean of
    several ranks' losses is the global batch's loss, with the gradients of other ranks' negatives."""
    cells = embedding.permute(0, 1, 3, 4, 2).flatten(0, 3)  # (V * B * N, D)
    anchor = _unit(cells[sample.anchors]).unsqueeze(-1)  # (B, A, D, 1)
    # under bf16 a product would be rounded to 3 digits, before the temperature
    with torch.autocast(cells.device.type, enabled=False):
        positive = (_unit(cells[sample.positives]) @ anchor).squeeze(-1)  # (B, A, P) cosine
        negative = (_unit(_negatives(cells, sample)) @ anchor).squeeze(-1)  # (B, A, M)
    logits = (negative / settings.temperature).masked_fill(~sample.negatives_valid, NO_NEGATIVE)
    margin = logits.logsumexp(-1, keepdim=True) - positive / settings.temperature
    terms = F.softplus(margin) if settings.form == "log" else -torch.sigmoid(-margin)
    count = sum_over_ranks(sample.positives_valid.sum()).clamp_min(1) / world()
    similarities = {"positive_similarity": _mean(positive, sample.positives_valid)}
    similarities["negative_similarity"] = _mean(negative, sample.negatives_valid)
    return (terms * sample.positives_valid).sum() / count, similarities


def _negatives(cells: Tensor, sample: PixelSample) -> Tensor:
    """The negatives' vectors (B, A, M, D), those that lie on other ranks among them."""
    if sample.elsewhere is None:
        return cells[sample.negatives]
    cns = sample.elsewhere.shape[-1]
    own = cells[sample.negatives[..., : sample.negatives.shape[-1] - cns]].float()
    return torch.cat([own, batch_part().of(rows_of_ranks(cells, sample.owners, sample.elsewhere))], 2)


def _unit(vectors: Tensor) -> Tensor:
    return F.normalize(vectors.float(), dim=-1)


def _mean(values: Tensor, valid: Tensor) -> Tensor:
    return ((values.detach() * valid).sum() / valid.sum().clamp_min(1)).detach()
