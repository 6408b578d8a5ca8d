"""What is under the data root: each split as its own loader finds it, against the published number."""

from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from hgrl.core.data_settings import Source
from hgrl.core.errors import InputError
from hgrl.core.settings import Settings
from hgrl.data.fetching.archives import DATA_SETS, Split
from hgrl.data.sets.bsds import ContourSamples
from hgrl.data.sets.listing import require_files
from hgrl.data.sets.sbd import find_sbd, sbd_masks
from hgrl.data.sources import open_samples, open_videos


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
        """missing: no such folder; incomplete: refused by the loader, or too small; differs: too large."""
        if self.found is None:
            return "incomplete" if self.problem else "missing"
        if self.split.count is None:
            return "present"
        if self.found == self.split.count:
            return "complete"
        return "incomplete" if self.found < self.split.count else "differs"

    @property
    def next_step(self) -> str:
        """What to do about it; empty when nothing is."""
        if self.status in ("complete", "present"):
            return ""
        if self.name not in DATA_SETS:
            return f"put {self.split.folder} there by hand"
        command = f"python -m hgrl fetch {self.name}"
        by_hand = self.status == "missing" or DATA_SETS[self.name].archive is None
        return command if by_hand else f"move {self.split.folder} away, then {command}"


def survey(root: Path, settings: Settings) -> list[Row]:
    """A row for each split that has a published number, then one for each other source of the profile.

    The loaders themselves count, so that what is complete here can be opened. A profile that draws its own
    data set needs nothing; nor are sources of `data.extra` needed: runs on missing ones are left out."""
    data, trials = settings.data, settings.ablation
    labelled = (source for one in data.labelled.values() for source in (one.train, one.val))
    sources = (*data.pretrain, *labelled, data.label_source, data.videos, trials.train, trials.val)
    needed = {(source.kind, source.folder, source.split) for source in sources if source and not data.scenes}
    known = [(name, split) for name, data_set in DATA_SETS.items() for split in data_set.splits]
    others = sorted(needed - {split.source for _, split in known})
    known += [(source[1], Split(*source, None)) for source in others]
    return [count(root, name, split, split.source in needed) for name, split in known]


def count(root: Path, name: str, split: Split, needed: bool = False) -> Row:
    """How much of a split its loader finds."""
    try:
        return Row(name, split, _count(root, split), needed)
    except InputError as error:
        of_sbd = split.name == "train_aug" or split.kind == "sbd"
        there = (root / split.folder).is_dir() and not (of_sbd and find_sbd(root) is None)
        return Row(name, split, None, needed, str(error) if there else "")


def _count(root: Path, split: Split) -> int:
    if split.kind == "sbd":
        home = find_sbd(root)
        if home is None:
            raise InputError(f"{root / 'SBD'}: no SBD in it; run `python -m hgrl fetch sbd`")
        masks = sbd_masks(home, split.name)
        require_files(masks.values(), home / f"{split.name}.txt")
        return len(masks)
    source = Source(kind=split.kind, folder=split.folder, split=split.name)
    if split.kind == "davis":
        return len(open_videos(source, root))
    samples = open_samples(source, root)
    if isinstance(samples, ContourSamples):
        require_files(samples.ground_truths, root / split.folder)
    return len(samples)


def format_survey(rows: list[Row], profile: str) -> str:
    """The rows as text, and below them what the loaders said."""
    head = ("data set", "split", "status", "found", "expected", f"for {profile}", "next")
    cells = []
    for row in rows:
        counts = ("-" if number is None else f"{number:,}" for number in (row.found, row.split.count))
        split, needed = f"{row.split.name} {row.split.unit}", "needed" if row.needed else ""
        cells.append((row.name, split, row.status, *counts, needed, row.next_step))
    problems = [f"{row.name} {row.split.name}: {row.problem}" for row in rows if row.problem]
    return "\n".join([tabulate(cells, head, tablefmt="plain", disable_numparse=True), *problems])
