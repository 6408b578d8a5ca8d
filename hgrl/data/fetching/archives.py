"""The table of data sets, read from `archives.yaml` beside this file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Archive:
    """One file to download; `archives.yaml` says what the fields are."""

    addresses: list[str]
    top: str
    size: int
    unpacked: int
    checksum: str | None = None  # "sha256:..." or "md5:..."; None: none is published
    size_is_exact: bool = True

    @property
    def file(self) -> str:
        return self.addresses[0].rpartition("/")[2]


@dataclass(frozen=True)
class Split:
    """What the loader of `kind` must find in one split."""

    kind: str
    folder: str  # below the data root
    name: str
    count: int | None  # as published; None: there is no such number
    unit: str = "images"

    @property
    def source(self) -> tuple[str, str, str]:
        return self.kind, self.folder, self.name


@dataclass(frozen=True)
class DataSet:
    """One name that `python -m hgrl fetch` knows."""

    title: str  # with the terms of use
    folder: str
    splits: tuple[Split, ...]
    archive: Archive | None  # None: behind an account, and `by_hand` says how to get it
    by_hand: str


def _data_set(title: str, folder: str, splits: list, archive: Any = None, by_hand: str = "") -> DataSet:
    known = tuple(Split(*split) for split in splits)
    return DataSet(title, folder, known, archive and Archive(**archive), by_hand)


_TABLE = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
DATA_SETS = {name: _data_set(**entry) for name, entry in _TABLE.items()}
