"""Runs that a profile leaves out: one list of runs serves every profile, and each stage says what it did not
make.
"""

from __future__ import annotations

from hgrl.core import paths
from hgrl.core.files import write_json, write_text

LOSS_COLUMNS = "seed,step,loss"


def write_reason(profile: str, run: str, reason: str) -> None:
    """What the training stage of such a run writes, in place of checkpoints, scores and loss curves."""
    write_text(paths.checkpoints(profile, run) / "left_out.txt", f"{reason}\n")
    write_json(
        paths.results(profile) / "pretraining" / f"{run}.json",
        {"profile": profile, "stage": "pretraining", "name": run, "left_out": reason},
    )
    write_text(paths.results(profile) / "pretraining" / f"{run}.csv", f"{LOSS_COLUMNS}\n")
