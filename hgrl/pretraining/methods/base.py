"""The interface of a method."""

from collections.abc import Iterable
from typing import Literal

from torch import Generator, Tensor, nn

from hgrl.core.data_settings import Section
from hgrl.core.loading import validated
from hgrl.core.settings import AugmentSettings, Settings
from hgrl.pretraining.network import LAYERS, Network
from hgrl.sampling.views import Batch, Partition


class Method(nn.Module):
    """Subclasses implement `loss`; override `__init__` to add momentum encoders, queues or heads.

    What a method carries from step to step lives in parameters and buffers, so that a checkpoint holds it.
    Every random draw after `__init__` comes from `batch.generator`."""

    needs_trees = True  # False: the loop reads no trees, and labels and distances are zeros
    needs_classes = False  # True: it learns from `data.label_source` and the classes that its images show
    needs_clips = False  # True: it learns from clips (`ClipMethod`); views are their frames
    needs_flow = False  # True: its clips are stills in motion even where `data.clips` names videos
    # when the loop calls `begin`: before the first step, or before each epoch, whose images it then draws by
    # `image_weights`, and says which they are (`batch.indices`)
    begins: Literal["never", "run", "epoch"] = "never"
    grey_input = False  # True: it was shown grey images, and evaluations show it such
    follows_views = False  # True: `augment.views` decides which views it is given; else both are augmented
    sections: tuple[str, ...] = ()  # of the settings that it reads, besides network, augment and pretrain
    own: tuple[str, type[Section]] | None = None  # key and type of its settings under the profile's `methods`
    # of the network that it trains: evaluations read no other. None: it has a model of its own, that tracks
    layers: tuple[str, ...] = LAYERS

    def __init__(self, settings: Settings) -> None:
        """Sets `network` (None without `layers`), and each of `sections` and `own` under its name."""
        super().__init__()
        self.network = Network(settings.network) if self.layers else None
        for section in self.sections:
            setattr(self, section, getattr(settings, section))
        if self.own:
            setattr(self, self.own[0], method_settings(settings, *self.own))

    @classmethod
    def augment(cls, settings: Settings) -> AugmentSettings:
        """How its views are drawn: the profile's `augment`, over which the method's own settings may have
        their authors' (a `ViewSettings` named `augment`). Crop size and `views` are the profile's."""
        own = getattr(method_settings(settings, *cls.own), "augment", None) if cls.own else None
        return settings.augment.model_copy(update=own.model_dump() if own else {})

    @classmethod
    def partition(cls, settings: Settings) -> Partition | None:
        """The flat regions that it is given in place of the trees' leaves; distances are then zeros."""
        return None

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar to minimise, and detached scalar tensors to log. Must not wait for the device."""
        raise TypeError(f"{type(self).__name__} does not say what its loss is")

    def begin(self, images: Iterable[Tensor], generator: Generator) -> list[nn.Parameter]:
        """Look at all images, (B, 3, S, S) uint8 in order, in evaluation mode; keep the outcome in buffers.

        Returns the parameters that are drawn afresh."""
        raise TypeError(f"{type(self).__name__} does not say what it does before an {self.begins}")

    def image_weights(self) -> Tensor:
        """(images,) float32 on the CPU: how often, relatively, each image is drawn in this epoch."""
        raise TypeError(f"{type(self).__name__} does not say how often it draws each image")

    def forward(self, batch: Batch) -> Tensor:
        return self.loss(batch)[0]


def method_settings(settings: Settings, key: str, kind: type[Section], origin: str = "settings") -> Section:
    """What the profile has under `methods.<key>`; InputError, beginning with `origin`, for a bad value."""
    return validated(kind, settings.methods.get(key, {}), origin, f"methods.{key}.")
