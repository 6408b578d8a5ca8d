"""Checkpoints: what a run needs to go on, and what an evaluation needs to read it."""

import io
import itertools
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hgrl.core.errors import InputError
from hgrl.core.files import write_bytes


@dataclass(frozen=True)
class Checkpoint:
    """A run after `step` of `total_steps` steps."""

    identity: dict[str, Any]  # what a continued run must share, e.g. `TrainingJob.identity`
    step: int
    total_steps: int
    method: dict[str, Tensor]
    optimizer: dict[str, Any]
    random_states: dict[str, Tensor]
    losses: Tensor  # (step,) float32

    @property
    def complete(self) -> bool:
        return self.step >= self.total_steps

    def differing(self, identity: dict[str, Any]) -> list[str]:
        """The settings in which this run and another differ; none when one may continue the other."""
        ours, theirs = _flat(identity), _flat(self.identity)
        return sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))

    def require(self, identity: dict[str, Any], path: Path) -> None:
        """Raise InputError, naming the settings that differ, unless this is of a run with that identity."""
        ours, theirs = _flat(identity), _flat(self.identity)
        keys = self.differing(identity)[:4]
        if names := ", ".join(f"{key} ({theirs.get(key)} there, {ours.get(key)} now)" for key in keys):
            remedy = "delete it to train anew, or set them back"
            raise InputError(f"{path}: made with other settings: {names}; {remedy}")


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write atomically: a kill or a full disk leaves the former checkpoint in place."""
    # torch.save into a file turns the error of a full disk into one that does not say so
    buffer = io.BytesIO()
    torch.save(vars(checkpoint), buffer)
    write_bytes(path, buffer.getvalue())


def load_checkpoint(path: Path) -> Checkpoint:
    """Read to the CPU without unpickling foreign code; InputError for a missing, damaged or foreign file."""
    try:
        content = io.BytesIO(path.read_bytes())
        _check_archive(content)
        with warnings.catch_warnings():  # on the format of a foreign file, which is refused below
            warnings.simplefilter("ignore")
            return Checkpoint(**torch.load(content, map_location="cpu", weights_only=True))
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint; run `dvc repro` to train it") from None
    except Exception as error:  # torch and pickle raise a dozen different things on a broken file
        problem = f"damaged, or not a checkpoint of this project ({' '.join(str(error).split())[:120]})"
        raise InputError(f"{path}: {problem}; delete it and train again") from None


def load_complete(path: Path) -> Checkpoint:
    """A checkpoint whose training is over; InputError, as `load_checkpoint`, and if it is not."""
    saved = load_checkpoint(path)
    if not saved.complete:
        steps = f"trained to step {saved.step} of {saved.total_steps} only"
        raise InputError(f"{path}: {steps}; run `dvc repro` to finish it")
    return saved


def _check_archive(content: io.BytesIO) -> None:
    """Raise BadZipFile unless every record has its checksum, at which torch does not look."""
    archive = zipfile.ZipFile(content)
    # torch writes no attributes, and reads a record with that of a folder as empty
    odd = [record.filename for record in archive.infolist() if record.external_attr]
    if damaged := archive.testzip() or next(iter(odd), None):
        raise zipfile.BadZipFile(f"the checksum of {damaged} does not fit")
    content.seek(0)


def stale_reason(path: Path, identity: dict[str, Any]) -> str | None:
    """Why a checkpoint, if there is one, is of no use to the run `identity`: damage, or other settings."""
    if not path.exists():
        return None
    try:
        differing = load_checkpoint(path).differing(identity)
    except InputError as error:
        return str(error).rpartition(";")[0]
    return f"these changed: {', '.join(differing[:4])}" if differing else None


def set_stale_aside(path: Path, reason: str | None, aside: Path, *companions: Path) -> None:
    """Move a checkpoint that is of no use for a `reason` to `aside`, its companions beside it, and say why.

    Once its replacement stands it may go: `remove_aside`."""
    if reason:
        former = set_aside(path, aside)
        for file in companions:
            set_aside(file, aside.with_name(file.name))
        print(f"{path.name}: trained anew, because {reason}; the former one is {former}", flush=True)


def set_aside(path: Path, aside: Path) -> Path:
    """Move a file to `aside`, or to the first free of `aside~2`, `aside~3`, ...; returns where."""
    aside.parent.mkdir(parents=True, exist_ok=True)
    places = (aside.with_name(f"{aside.stem}~{number}{aside.suffix}") for number in itertools.count(2))
    return path.replace(next(place for place in itertools.chain([aside], places) if not place.exists()))


def remove_aside(aside: Path) -> None:
    """Delete what `set_aside` moved there, a run's companions included."""
    for file in aside.parent.glob(f"{aside.stem}[.~]*"):
        file.unlink()


def _flat(identity: dict[str, Any]) -> dict[str, Any]:
    """Dotted names -> values; those of settings without the word."""
    flat: dict[str, Any] = {}
    for key, value in identity.items():
        inner = _flat(value) if isinstance(value, dict) else None
        names = {key: value} if inner is None else {f"{key}.{name}": item for name, item in inner.items()}
        flat |= {name.removeprefix("settings."): item for name, item in names.items()}
    return flat
