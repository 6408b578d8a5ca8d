"""The checkpoints of one run beside its newest: earlier states, and snapshots that stay for good."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hgrl.core.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from hgrl.core.errors import InputError
from hgrl.core.files import write_bytes

# What may lie beside `seed0.pt`, the newest checkpoint and at last the complete one, which alone evaluations
# read


def older_file(path: Path, step: int) -> Path:
    """`seed0.step000120.pt`: an earlier state of a run in progress."""
    return path.with_name(f"{path.stem}.step{step:06d}{path.suffix}")


def best_file(path: Path) -> Path:
    """`seed0.best.pt`: the state after the epoch of the lowest mean loss."""
    return path.with_name(f"{path.stem}.best{path.suffix}")


def snapshot_file(path: Path, share: float) -> Path:
    """`seed0.at020.pt`: the state after that share of the run, in percent (`pretrain.snapshots`).
    `hgrl.evaluation.stage.network_of` reads it.
    """
    return path.with_name(f"{path.stem}.at{round(100 * share):03d}{path.suffix}")


def snapshot_step(share: float, total: int) -> int:
    """The step after which a snapshot is taken: the nearest, and at least one."""
    return max(1, round(share * total))


def companions(path: Path) -> list[Path]:
    """All checkpoints of the same run beside the newest."""
    kind = re.compile(rf"{re.escape(path.stem)}\.(step\d{{6,}}|best|at\d{{3}}){re.escape(path.suffix)}")
    return (
        sorted(file for file in path.parent.glob("*") if kind.fullmatch(file.name))
        if path.parent.is_dir()
        else []
    )


def older_files(path: Path) -> list[Path]:
    """Earlier states of a run in progress, the newest first."""
    found = [file for file in companions(path) if file.name.startswith(f"{path.stem}.step")]
    return sorted(
        found,
        key=lambda file: int(file.name.removeprefix(f"{path.stem}.step").removesuffix(path.suffix)),
        reverse=True,
    )


def delete_run(path: Path) -> None:
    """Remove a run's checkpoints, and what a killed process left of one."""
    for file in (path, *companions(path), *_unfinished(path)):
        file.unlink(missing_ok=True)


def tidy(path: Path, keep: set[Path]) -> None:
    """Of a run's checkpoints leave the newest and those of `keep`."""
    for file in (*companions(path), *_unfinished(path)):
        if file not in keep:
            file.unlink(missing_ok=True)


def _unfinished(path: Path) -> list[Path]:
    return [
        file
        for file in path.parent.glob(".*.part")
        if file.name.startswith((f".{path.name}.", f".{path.stem}."))
    ]


def save_newest(path: Path, checkpoint: Checkpoint, keep_last: int) -> None:
    """`save_checkpoint`, with the `keep_last - 1` checkpoints before it set aside. A failure leaves all as it
    was.
    """
    aside = _set_aside(path) if keep_last > 1 else None
    try:
        save_checkpoint(path, checkpoint)
    except InputError:
        if aside is not None:
            aside.unlink(missing_ok=True)
        raise
    for file in older_files(path)[keep_last - 1 :]:
        file.unlink(missing_ok=True)


def _set_aside(path: Path) -> Path | None:
    """A second name for the newest checkpoint, which survives its replacement: no byte is copied where the
    file system has links.
    """
    try:
        aside = older_file(path, load_checkpoint(path).step)
    except InputError:  # none yet, or damaged: not worth keeping
        return None
    aside.unlink(missing_ok=True)
    try:
        os.link(path, aside)
    except OSError:
        write_bytes(aside, path.read_bytes())
    return aside


def mend(path: Path, identity: dict[str, Any]) -> None:
    """Where the newest checkpoint cannot be read, put the last good one of the same run in its place, and say
    so.

    Leaves everything as it is where there is nothing to mend or to mend it with.
    """
    if not path.exists():
        return
    try:
        load_checkpoint(path)
    except InputError as error:
        if good := _last_good(path, identity):
            file, saved = good
            write_bytes(path, file.read_bytes())
            print(
                f"{str(error).rpartition(';')[0]}; training goes on from {file.name}, step {saved.step} of {saved.total_steps}",
                flush=True,
            )


def _last_good(path: Path, identity: dict[str, Any]) -> tuple[Path, Checkpoint] | None:
    good = []
    for file in companions(path):
        try:
            saved = load_checkpoint(file)
        except InputError:
            continue
        if not saved.differing(identity):
            good.append((file, saved))
    return max(good, key=lambda found: found[1].step, default=None)
