"""What methods that learn from clips have in common: their batches, and the layer that tracking reads."""

from torch import Tensor

from hgrl.core.settings import Settings
from hgrl.data.normalise import normalise
from hgrl.data.samples import Samples
from hgrl.pretraining.methods.base import Method
from hgrl.sampling.clips import ClipViews
from hgrl.sampling.views import Batch


class ClipMethod(Method):
    """A method whose `batch.clips` are (B, T, 3, S, S), with `batch.flow` if they are stills in motion.

    Frames are neither jittered nor blurred; `augment` gives their size, part and mirroring."""

    needs_trees = False
    needs_clips = True
    sections = ("clips",)
    layers = ("backbone",)

    @classmethod
    def training_set(cls, samples: Samples, settings: Settings, seed: int) -> ClipViews:
        videos = settings.data.clips is not None and not cls.needs_flow
        return ClipViews(samples, settings, seed, videos)

    def fine_features(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) normalised -> (N, C, H / 8, W / 8): Res4 without its stride, as tracking reads it."""
        with self.network.backbone.last_stride_out():
            return self.network.backbone(images)[-1]

    def frame_features(self, batch: Batch, frames: Tensor | None = None) -> Tensor:
        """(T, B, C, g, g) `fine_features` of a batch's frames, or of `frames` (T, B, 3, S, S)."""
        images = normalise(batch.flat_images) if frames is None else normalise(frames.flatten(0, 1))
        return self.fine_features(images).unflatten(0, batch.images.shape[:2])
