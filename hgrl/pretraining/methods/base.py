"""The interface of a method."""

from __future__ import annotations

from torch import Tensor, nn

from hgrl.core.settings import Settings
from hgrl.pretraining.network import LAYERS, Network
from hgrl.sampling.views import Batch


class Method(nn.Module):
    """Subclasses implement `loss`; override `__init__` to add momentum encoders, queues or heads.

    Whatever a method keeps from step to step lives in parameters and buffers, so that a checkpoint holds it.
    Every other random draw comes from `batch.generator`.
    """

    needs_trees = True  # False: the loop reads no trees, and labels and distances are zeros
    # True: the loop reads the probe's labelled images, and which classes each one shows
    needs_classes = False
    # settings it reads besides network, augment and pretrain: a change of others leaves its checkpoints
    sections: tuple[str, ...] = ()
    layers: tuple[str, ...] = LAYERS  # layers of the network that it trains: evaluations read no other

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.network = Network(settings.network)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar to minimise, and detached scalar tensors to log. Must not wait for the device."""
        raise TypeError(f"{type(self).__name__} does not say what its loss is")
