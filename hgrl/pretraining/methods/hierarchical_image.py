"""The paper's "Ours + Image" (table 1, the row with the dagger): the pixel objective on top of MoCo's."""

from torch import Tensor

from hgrl.data.normalise import normalise
from hgrl.pretraining.methods.hierarchical import pixel_loss
from hgrl.pretraining.methods.moco import MoCo
from hgrl.pretraining.network import LAYERS
from hgrl.sampling.views import Batch


class HierarchicalImage(MoCo):
    """The two losses, added (section 5.1: "simply adding our pixel-wise contrastive target", with no weight).

    One forward pass of both views serves both: the pixel loss reads the embedding, MoCo's query the first
    view's backbone. "On top of MoCo": both views are augmented, as MoCo's authors do it. The query is
    normalised with the pixel loss's whole batch, keys in `methods.moco.groups` groups."""

    needs_trees = True
    sections = ("sampling", "objective")
    layers = LAYERS

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        backbone, embedding = self.network.features(normalise(batch.flat_images), "backbone", "embedding")
        pixel, diagnostics = pixel_loss(embedding, batch, self.sampling, self.objective)
        image, _ = self.image_loss(backbone[: batch.images.shape[1]], batch)
        return pixel + image, diagnostics | {"pixel_loss": pixel.detach(), "image_loss": image.detach()}
