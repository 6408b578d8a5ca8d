"""What is under the data root: each split's images as its own loader finds them, against the published
number.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hgrl.core.errors import InputError
from hgrl.core.settings import Settings, Source
from hgrl.data.fetching.archives import DATA_SETS, Split
from hgrl.data.sets.bsds import ContourSamples
from hgrl.data.sets.coco import annotation_file
from hgrl.data.sets.imagenet import imagenet_folders
from hgrl.data.sets.listing import require_files
from hgrl.data.sets.sbd import find_sbd, mask_file, sbd_stems
from hgrl.data.sources import open_samples, open_videos

# nothing to fetch; SegNet's numbers
ELSEWHERE = {"camvid": (Split("camvid", "CamVid", "train", 367), Split("camvid", "CamVid", "val", 101))}


@dataclass(frozen=True)
class Row:
    """One split of one data set."""

    name: str  # what `fetch` calls the set; else its folder
    split: Split
    found: int | None  # None: not there, or not to be opened
    needed: bool  # by the profile
    problem: str = ""  # the loader's own words, where it refuses what is there

    @property
    def status(self) -> str:
        """missing: no such folder; incomplete: the loader refuses it, or it is smaller than published;
        differs: larger.
        """
        if self.found is None:
            return "incomplete" if self.problem else "missing"
        if self.split.count is None:
            return "present"
        return (
            "complete"
            if self.found == self.split.count
            else "incomplete"
            if self.found < self.split.count
            else "differs"
        )

    @property
    def next_step(self) -> str:
        """What to do about it; empty when nothing is."""
        if self.status in ("complete", "present"):
            return ""
        if self.name not in DATA_SETS:
            return f"put {self.split.folder} there by hand"
        command = f"python -m hgrl fetch {self.name}"
        return (
            command
            if self.status == "missing" or self.name == "imagenet"
            else f"move it away, then {command}"
        )


def survey(root: Path, settings: Settings) -> list[Row]:
    """A row for each split that has a published number, then one for each other source of the profile.

    Counts are made by the loaders themselves, so that what is complete here can be opened. For a profile that
    draws its own data set nothing is needed.
    """
    needed = set() if settings.data.scenes is not None else _sources(settings)
    known = {name: data_set.splits for name, data_set in DATA_SETS.items()} | ELSEWHERE
    rows = [
        count(root, name, split, _source(split) in needed)
        for name, splits in known.items()
        for split in splits
    ]
    rest = needed - {_source(row.split) for row in rows}
    rows += [
        count(root, folder, Split(kind, folder, split, None), True) for kind, folder, split in sorted(rest)
    ]
    return [row for row in rows if row.name in DATA_SETS or row.needed]


def _sources(settings: Settings) -> set[tuple[str, str, str]]:
    """All that the stages cannot do without, as (kind, folder, split): runs on what of `data.extra` is
    missing are left out.
    """
    data, ablation = settings.data, settings.ablation
    sources = (*data.pretrain, data.probe_train, data.probe_val, data.videos, ablation.train, ablation.val)
    return {(source.kind, source.folder, source.split) for source in sources}


def _source(split: Split) -> tuple[str, str, str]:
    return split.kind, split.folder, split.name


def count(root: Path, name: str, split: Split, needed: bool = False) -> Row:
    """How much of a split its loader finds."""
    try:
        return Row(name, split, _count(root, split), needed)
    except InputError as error:
        there = (root / split.folder).is_dir() and not _is_absent(root, split)
        return Row(name, split, None, needed, str(error) if there else "")


def _is_absent(root: Path, split: Split) -> bool:
    """Splits that another set of the same folder brings."""
    return (split.name == "train_aug" or split.kind == "sbd") and find_sbd(root) is None


def _count(root: Path, split: Split) -> int:
    if split.kind == "sbd":
        return _count_sbd(root, split.name)
    if split.kind == "coco-json":  # not parsed, which takes a while: its archive's checksum speaks for it
        require_files([annotation_file(root, split.folder, split.name)], root / split.folder)
        return 1
    if split.kind == "imagenet-classes":
        return imagenet_folders(root, split.folder, split.name)
    source = Source(kind=split.kind, folder=split.folder, split=split.name)
    if split.kind == "davis":
        return len(open_videos(source, root))
    samples = open_samples(source, root)
    if isinstance(samples, ContourSamples):
        require_files(samples.ground_truths, root / split.folder)
    return len(samples)


def _count_sbd(root: Path, split: str) -> int:
    home = find_sbd(root)
    if home is None:
        raise InputError(f"{root / 'SBD'}: no SBD in it; run `python -m hgrl fetch sbd`")
    masks = [mask_file(home, stem) for stem in sbd_stems(home, split)]
    require_files(masks, home / f"{split}.txt")
    return len(masks)


def table(rows: list[Row], profile: str) -> str:
    """The rows as text, and below it what the loaders said."""
    head = ("data set", "split", "status", "found", "expected", f"for {profile}", "next")
    cells = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]
    return "\n".join(
        [*lines, *(f"{row.name} {row.split.name}: {row.problem}" for row in rows if row.problem)]
    )


def _cells(row: Row) -> tuple[str, ...]:
    numbers = ("-" if number is None else f"{number:,}" for number in (row.found, row.split.count))
    return (
        row.name,
        f"{row.split.name} {row.split.unit}",
        row.status,
        *numbers,
        "needed" if row.needed else "",
        row.next_step,
    )
