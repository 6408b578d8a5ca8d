"""The paper's method (section 3): pixels contrast with others drawn from the region hierarchy."""

from torch import Tensor

from hgrl.core.settings import ObjectiveSettings, SamplingSettings
from hgrl.data.normalise import normalise
from hgrl.pretraining.methods.base import Method
from hgrl.pretraining.objective import contrastive_loss
from hgrl.pretraining.ranks import batch_part
from hgrl.sampling.pixels import sample_pixels
from hgrl.sampling.views import Batch


class HierarchicalGrouping(Method):
    """Equations 1 to 3 on the embedding of both views. No momentum encoder, no memory bank."""

    follows_views = True
    sections = ("sampling", "objective")

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        embedding = self.network(normalise(batch.flat_images))
        return pixel_loss(embedding, batch, self.sampling, self.objective)


def pixel_loss(
    embedding: Tensor, batch: Batch, sampling: SamplingSettings, objective: ObjectiveSettings
) -> tuple[Tensor, dict[str, Tensor]]:
    """Equation 1 on the embedding (V * B, D, h, w) of both views, with pixels drawn by equations 2 and 3."""
    embedding = embedding.unflatten(0, batch.images.shape[:2])
    terms = []
    for cns in cns_now(sampling, batch.progress):
        given = batch.labels, batch.distances, sampling, cns, batch.generator, batch_part()
        sample = sample_pixels(*given, same_pixels=batch.same_pixels)
        terms.append(contrastive_loss(embedding, sample, objective))
    return sum(term for term, _ in terms) / len(terms), terms[-1][1]


def cns_now(settings: SamplingSettings, progress: float) -> tuple[int, ...]:
    """Numbers of cross-image negatives of the loss terms at this point of the run.

    Table 1's "cns = 5, 20" is not explained. `schedule`: one number after the other, for equal stretches of
    the run. `terms`: one loss term for each number, averaged."""
    if settings.cns_reading == "terms":
        return settings.cns
    return (settings.cns[min(int(progress * len(settings.cns)), len(settings.cns) - 1)],)
