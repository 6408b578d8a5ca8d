"""The interface of a method."""

from typing import TypeVar

from torch import Tensor, nn

from hgrl.core.loading import validated
from hgrl.core.settings import Section, Settings
from hgrl.pretraining.network import LAYERS, Network
from hgrl.sampling.views import Batch

Own = TypeVar("Own", bound=Section)


class Method(nn.Module):
    """Subclasses implement `loss`; override `__init__` to add momentum encoders, queues or heads.

    What a method carries from step to step lives in parameters and buffers, so that a checkpoint holds it.
    Every other random draw comes from `batch.generator`."""

    needs_trees = True  # False: the loop reads no trees, and labels and distances are zeros
    # True: the loop reads the probe's labelled images, and which classes each one shows
    needs_classes = False
    follows_views = False  # True: `augment.views` decides which views it is given; else both are augmented
    # shared sections of the settings that it reads besides network, augment and pretrain
    sections: tuple[str, ...] = ()
    # its own settings: their key under the profile's `methods`, and their type
    own: tuple[str, type[Section]] | None = None
    layers: tuple[str, ...] = LAYERS  # layers of the network that it trains: evaluations read no other

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.network = Network(settings.network)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar to minimise, and detached scalar tensors to log. Must not wait for the device."""
        raise TypeError(f"{type(self).__name__} does not say what its loss is")

    def forward(self, batch: Batch) -> Tensor:
        return self.loss(batch)[0]


def method_settings(settings: Settings, key: str, section: type[Own], origin: str = "settings") -> Own:
    """What the profile has under `methods.<key>`; InputError, beginning with `origin`, for a bad value."""
    return validated(section, settings.methods.get(key, {}), origin, f"methods.{key}.")
