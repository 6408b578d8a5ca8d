"""What methods that learn from clips have in common: where their batches come from."""

from hgrl.core.settings import Settings
from hgrl.data.samples import Samples
from hgrl.pretraining.methods.base import Method
from hgrl.sampling.clips import ClipViews


class ClipMethod(Method):
    """A method whose `batch.clips` are (B, T, 3, S, S), with `batch.flow` if they are stills in motion.

    Frames are neither jittered nor blurred; `augment` gives their size, part and mirroring."""

    needs_trees = False
    needs_clips = True
    sections = ("clips",)

    @staticmethod
    def training_set(samples: Samples, settings: Settings, seed: int) -> ClipViews:
        return ClipViews(samples, settings, seed)
