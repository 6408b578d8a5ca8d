"""The checkpoints of a run: the newest, the few before it while it is in progress, and snapshots."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import torch

from hgrl.core.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, set_stale_aside, stale_reason
from hgrl.core.errors import InputError
from hgrl.core.files import write_bytes
from hgrl.pretraining.job import TrainingJob


def older_file(path: Path, step: int) -> Path:
    """`seed0.step000120.pt`: an earlier state of a run in progress."""
    return path.with_name(f"{path.stem}.step{step:06d}{path.suffix}")


def snapshot_file(path: Path, share: float) -> Path:
    """`seed0.at020.pt`: the state after that share of the run, in percent (`pretrain.snapshots`)."""
    return path.with_name(f"{path.stem}.at{round(100 * share):03d}{path.suffix}")


def snapshot_step(share: float, total: int) -> int:
    """The step after which a snapshot is taken: the nearest, and at least one."""
    return max(1, round(share * total))


def companions(path: Path) -> list[Path]:
    """All checkpoints of the same run beside the newest."""
    kind = re.compile(rf"{re.escape(path.stem)}\.(step\d{{6,}}|at\d{{3}}){re.escape(path.suffix)}")
    return sorted(file for file in path.parent.glob("*") if kind.fullmatch(file.name))


def older_files(path: Path) -> list[Path]:
    """Earlier states of a run in progress, the newest first."""
    found = [file for file in companions(path) if ".step" in file.name]
    return sorted(found, key=lambda file: int(file.stem.rpartition(".step")[2]), reverse=True)


def remove_companions(path: Path, except_for: set[Path] = frozenset()) -> None:
    """Delete what lies beside the newest checkpoint of a run, and what a killed process left of one."""
    begins = f".{path.name}.", f".{path.stem}."
    unfinished = [file for file in path.parent.glob(".*.part") if file.name.startswith(begins)]
    for file in {*companions(path), *unfinished} - except_for:
        file.unlink(missing_ok=True)


@dataclass(frozen=True)
class CheckpointKeeper:
    """Reads and writes the checkpoints of one job. With several ranks only the first may write."""

    job: TrainingJob

    @property
    def path(self) -> Path:
        return self.job.path

    def newest(self) -> Checkpoint | None:
        """The checkpoint to resume from; None if there is none: whatever lies beside it is then deleted.

        A damaged one is first replaced by the last good one of the same run, if any, with a message. Raises
        InputError for a damaged one that has no replacement, and for one of other settings."""
        self.restore_last_good()
        if not self.path.exists():
            remove_companions(self.path)
            return None
        saved = load_checkpoint(self.path)
        saved.require(self.job.identity, self.path)
        return saved

    def restore_last_good(self) -> None:
        """Replace a newest checkpoint that cannot be read by the last good one beside it, and say so."""
        try:
            if self.path.exists():
                load_checkpoint(self.path)
        except InputError as error:
            good = [(saved.step, file) for file in companions(self.path) if (saved := self._own(file))]
            if good:
                step, file = max(good)
                write_bytes(self.path, file.read_bytes())
                damage, of = str(error).rpartition(";")[0], f"step {step} of {self.job.steps}"
                print(f"{damage}; training resumes from {file.name}, {of}", flush=True)

    def make_ready(self, aside: Path) -> None:
        """Restore the last good state; move what is of no use to the job to `aside`'s folder. Says so."""
        self.restore_last_good()
        reason = stale_reason(self.path, self.job.identity) or self._missing_snapshots()
        set_stale_aside(self.path, reason, aside, *companions(self.path))

    def _missing_snapshots(self) -> str | None:
        """Which snapshots the newest went past without leaving them, if any."""
        if not self.path.exists():
            return None
        done, shares = load_checkpoint(self.path).step, self.job.schedule.snapshots
        passed = [share for share in shares if snapshot_step(share, self.job.steps) <= done]
        missing = [str(share) for share in passed if not self._own(snapshot_file(self.path, share))]
        return f"its snapshots at {', '.join(missing)} of the run are missing" if missing else None

    def _own(self, file: Path) -> Checkpoint | None:
        """A good checkpoint of this very run."""
        try:
            saved = load_checkpoint(file)
        except InputError:
            return None
        return None if saved.differing(self.job.identity) else saved

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace the newest, and leave `keep_last - 1` before it. A failure leaves all as it was.

        Raises InputError for weights that are not finite, and for a full disk."""
        self._require_finite(checkpoint)
        older = self._link_newest() if self.job.schedule.keep_last > 1 else None
        try:
            save_checkpoint(self.path, checkpoint)
        except InputError:
            if older is not None:
                older.unlink(missing_ok=True)
            raise
        for file in older_files(self.path)[self.job.schedule.keep_last - 1 :]:
            file.unlink(missing_ok=True)

    def _link_newest(self) -> Path | None:
        """A second name for the newest checkpoint, or a copy; None if there is none or it is damaged."""
        try:
            older = older_file(self.path, load_checkpoint(self.path).step)
        except InputError:
            return None
        older.unlink(missing_ok=True)
        try:
            os.link(self.path, older)
        except OSError:
            write_bytes(older, self.path.read_bytes())
        return older

    def snapshots_at(self, step: int) -> list[Path]:
        """Where the state after a step is to be saved as well."""
        shares, total = self.job.schedule.snapshots, self.job.steps
        return [snapshot_file(self.path, share) for share in shares if snapshot_step(share, total) == step]

    def save_snapshots(self, checkpoint: Checkpoint) -> None:
        self._require_finite(checkpoint)
        for file in self.snapshots_at(checkpoint.step):
            save_checkpoint(file, checkpoint)

    def finish(self) -> None:
        """Leave beside a complete checkpoint only its snapshots: nothing tells when the run was stopped."""
        snapshots = {snapshot_file(self.path, share) for share in self.job.schedule.snapshots}
        remove_companions(self.path, except_for=snapshots)

    def _require_finite(self, checkpoint: Checkpoint) -> None:
        """A loss may be finite and its gradient not: such weights never replace a good checkpoint."""
        for name, weights in checkpoint.method.items():
            if not torch.isfinite(weights).all():
                raise InputError(self.fault(f"{name} is not finite after step {checkpoint.step - 1}"))

    def fault(self, what: str) -> str:
        """The message of a run that stops because of `what`."""
        good = f"; the last good checkpoint stays at {self.path}" if self.path.exists() else ""
        return f"{what} of {self.job.steps}{good}; lower pretrain.lr or add pretrain.warmup_steps"
