"""The interface of a method."""

from __future__ import annotations

from torch import Tensor, nn

from hgrl.config import Settings
from hgrl.network import Network
from hgrl.views import Batch


class Method(nn.Module):
    """Subclasses implement `loss`; override `__init__` to add momentum encoders, queues or heads."""

    needs_trees = True  # False: the loop reads no trees, and labels and distances are zeros

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.network = Network(settings.network)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar to minimise, and detached scalar tensors to log. Must not wait for the device."""
        raise TypeError(f"{type(self).__name__} does not say what its loss is")
