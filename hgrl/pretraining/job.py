"""A training job: one seed of one run, and the checkpoint that it ends in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hgrl.core.settings import Settings
from hgrl.data.samples import Samples
from hgrl.pretraining.methods import method_class, method_settings

# settings of `pretrain` that change the weights by no more than rounding
WITHOUT_SAY = ("workers", "compile", "checkpoint_minutes", "keep_last", "snapshots")


@dataclass(frozen=True)
class TrainingJob:
    """All that decides the weights of one seed of one run."""

    method: str
    settings: Settings
    samples: Samples
    trees: Path | None  # the folder of the region trees
    height_scale: float  # the factor of `height_unit: auto`
    seed: int
    path: Path  # the checkpoint; earlier states and snapshots lie beside it
    origin: str = ""  # a fingerprint of data and code

    @property
    def identity(self) -> dict[str, Any]:
        """What two runs must share for one to continue the other."""
        settings, method = self.settings, method_class(self.method)
        own = settings.model_dump(mode="json", include={"network", "augment", "pretrain", *method.sections})
        own["pretrain"] = {key: value for key, value in own["pretrain"].items() if key not in WITHOUT_SAY}
        own |= {"short_side": settings.data.short_side, "max_regions": settings.grouping.max_regions}
        own["method"] = {name: method_settings(settings, name) for name in method.reads}
        about = {"method": self.method, "seed": self.seed, "images": len(self.samples), "origin": self.origin}
        return about | {"settings": own}
