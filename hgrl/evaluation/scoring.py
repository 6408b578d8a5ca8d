"""What every evaluation shares: a score is read while all that made it is unchanged, and made otherwise."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hgrl.core.cache import code_fingerprint, store_scores, stored_scores
from hgrl.core.experiment import Run
from hgrl.core.files import remove_unfinished
from hgrl.core.processes import run_tasks

# Code that reaches a score by the checkpoint alone, which counts itself or by the identity of its training.
# The layers that a method trains count by value.
WITHOUT_SAY = (
    *("hgrl.pretraining.methods", "hgrl.pretraining.objective", "hgrl.pretraining.ranks", "hgrl.grouping"),
    *(
        "hgrl.sampling.augment",
        "hgrl.sampling.clips",
        "hgrl.sampling.heights",
        "hgrl.sampling.pixels",
        "hgrl.sampling.views",
    ),
)


@dataclass(frozen=True)
class Scoring:
    """One score: where it is stored, the mark of all that decides it, and what makes it."""

    file: Path
    mark: str
    function: Callable[..., Any]  # (*arguments) -> scores ready for JSON; picklable
    arguments: tuple
    beside: Path | None = None  # a file that the function writes and that belongs to the scores

    def stored(self) -> Any | None:
        return stored_scores(self.file, self.mark, self.beside)

    def make(self, tick: Callable[[int], None]) -> Any:
        scores = self.function(*self.arguments)
        store_scores(self.file, self.mark, scores, self.beside)
        tick(1)
        return scores


def code_mark(module: str) -> str:
    """A fingerprint of the code that scores: a module, and all it imports except `WITHOUT_SAY`."""
    return code_fingerprint(module, without=WITHOUT_SAY)


def gather(scorings: dict[Any, Scoring], jobs: int, desc: str) -> dict[Any, Any]:
    """All scores: read if stored under their mark, else made in `jobs` processes, each stored at once."""
    for folder in {scoring.file.parent for scoring in scorings.values()}:
        remove_unfinished(folder)
    found = {key: scoring.stored() for key, scoring in scorings.items()}
    waiting = [key for key, scores in found.items() if scores is None]
    tasks = [(scorings[key],) for key in waiting]
    made = run_tasks(Scoring.make, tasks, jobs, desc, len(tasks)) if tasks else []
    return found | dict(zip(waiting, made, strict=True))


def is_left_out(run: Run, reason: str | None) -> bool:
    """Whether there is a reason to leave a run out; it is printed."""
    if reason:
        print(f"run {run.name!r} is left out: {reason}")
    return reason is not None


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Mean and the sample's standard deviation (n - 1); 0 for one value."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
