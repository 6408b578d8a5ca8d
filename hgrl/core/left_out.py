"""What the pipeline writes for a run that a profile leaves out, in place of its training's outputs."""

from hgrl.core.files import write_json, write_text
from hgrl.core.paths import Files

LOSS_COLUMNS = "seed,step,loss"


def write_reason(files: Files, run: str, reason: str) -> None:
    """One list of runs serves every profile, and DVC expects the same files of each run."""
    write_text(files.checkpoints(run) / "left_out.txt", f"{reason}\n")
    about = {"profile": files.profile, "stage": "pretraining", "name": run, "left_out": reason}
    write_json(files.result("pretraining", run), about)
    write_text(files.result("pretraining", run).with_suffix(".csv"), f"{LOSS_COLUMNS}\n")
