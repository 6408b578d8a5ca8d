"""A training job: one seed of one run, and the checkpoint that it ends in."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hgrl.core.settings import AugmentSettings, PretrainSettings, Settings
from hgrl.data.samples import Samples
from hgrl.pretraining.methods import Method, method_class, method_settings

# settings of `pretrain` that change the weights by no more than rounding
NO_EFFECT = {"workers", "compile", "checkpoint_minutes", "keep_last", "snapshots"}


@dataclass(frozen=True)
class TrainingJob:
    """All that decides the weights of one seed of one run."""

    method: str
    settings: Settings
    samples: Samples
    trees: Path  # the folder of the region trees
    height_scale: float  # the factor of `height_unit: auto`
    seed: int
    path: Path  # the checkpoint; earlier states and snapshots lie beside it
    origin: str  # a fingerprint of data and code

    @property
    def schedule(self) -> PretrainSettings:
        return self.settings.pretrain

    @property
    def method_class(self) -> type[Method]:
        return method_class(self.method)

    @cached_property
    def augment(self) -> AugmentSettings:
        """How the method's views are drawn; `views` as far as the method follows it."""
        own = self.method_class.augment(self.settings)
        return own if self.method_class.follows_views else own.model_copy(update={"views": "both"})

    @property
    def steps(self) -> int:
        """Of the whole run; the last partial batch of an epoch is dropped."""
        images = len(self.samples)
        return self.schedule.run_epochs * (images // max(1, min(self.schedule.batch, images)))

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What two runs must share for one to continue the other."""
        settings, method = self.settings, self.method_class
        sections = {"network", "pretrain", *method.sections}
        own = settings.model_dump(mode="json", include=sections, exclude={"pretrain": NO_EFFECT})
        own["augment"] = self.augment.model_dump(mode="json")
        own |= {"short_side": settings.data.short_side, "max_regions": settings.grouping.max_regions}
        if method.own:
            section = method_settings(settings, *method.own)
            own[method.own[0]] = section.model_dump(mode="json", exclude={"augment"})
        about = {"method": self.method, "seed": self.seed, "images": len(self.samples), "origin": self.origin}
        return about | {"settings": own}
