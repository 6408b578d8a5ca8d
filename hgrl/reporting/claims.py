"""A verdict on every claim of the paper: its figures, ours at this scale, the paired difference with its
interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hgrl.core import paths
from hgrl.core.cache import kept
from hgrl.core.errors import InputError
from hgrl.core.files import read_json, write_json, write_text
from hgrl.core.provenance import fingerprint
from hgrl.core.settings import load_settings, load_yaml
from hgrl.evaluation.confusions import confusion_file, load_confusions
from hgrl.metrics.bootstrap import interval
from hgrl.reporting.bootstrap import Contrast, Probed, by_seed, replicates, seeds_interval
from hgrl.reporting.tables import INAPPLICABLE, NOT_RUN

CLAIMS = Path(__file__).parent / "claims.yaml"
SCORE = "aspp-backbone.miou"  # the paper's probe; a claim may name another head
HOLDS, FAILS, UNDECIDED = "holds", "does not hold here", "undecided"
NOTHING_LEARNT = (
    "theirs is not shown to be above an untrained network by more than the margin: a match would mean nothing"
)
WITH_MARGIN = ("matches", "costs_little")
BLANK = {"mean": None, "std": None, "seeds": None}
COMPARED = (
    "difference",
    "interval_95",
    "interval_95_seeds",
    "by_seed",
    "images",
    "margin",
    "borne_out_by_seeds",
)
COLUMNS = (
    "",
    "claim",
    "paper",
    "runs",
    "ours",
    "theirs",
    "seeds",
    "difference",
    "95 % interval",
    "by the seeds alone",
    "margin",
    "verdict",
)

Entry = dict[str, Any]


def write_claims(profile: str) -> list[Entry]:
    """Judge every claim; writes results/<profile>/claims.json, and claims.md from it.

    Figures of an entry are in percent, those of a lead or a difference in points. Claims whose runs the
    profile has not scored are undecided, and say so. Raises InputError where a run has a score in the results
    and its matrices are not there to judge by.
    """
    rules = load_yaml(CLAIMS)
    entries = [judge(profile, _in_profile(claim, profile), rules) for claim in rules["claims"]]
    write_json(paths.claims(profile), entries)
    write_text(
        paths.claims(profile).with_suffix(".md"), as_markdown(read_json(paths.claims(profile)), profile)
    )
    return entries


def read_claims(profile: str) -> list[Entry]:
    """The entries of a profile; none where they were not made yet."""
    path = paths.claims(profile)
    return read_json(path) if path.exists() else []


def _in_profile(claim: Entry, profile: str) -> Entry:
    return claim | claim.get("in_profile", {}).get(profile, {})


def judge(profile: str, claim: Entry, rules: Entry) -> Entry:
    """One entry of claims.json."""
    head = claim.get("score", SCORE).removesuffix(".miou")
    sides = {name: _terms(claim[name]) for name in ("ours", "theirs")}
    probed, missing = _probed(profile, [run for terms in sides.values() for _, run in terms], head)
    whole = {name: terms for name, terms in sides.items() if all(run in probed for _, run in terms)}
    contrasts = {name: [(weight, probed[run]) for weight, run in terms] for name, terms in whole.items()}
    entry = {key: claim.get(key) for key in ("id", "claim", "kind", "paper", "paper_base")}
    entry |= {name: _summary(contrasts[name]) if name in contrasts else BLANK for name in sides}
    entry |= {"score": f"{head}.miou", "runs": {name: claim[name] for name in sides}}
    if missing:
        return (
            entry
            | dict.fromkeys(COMPARED)
            | {"verdict": UNDECIDED, "why": f"{NOT_RUN}: {', '.join(missing)}"}
        )
    compared = _compare(contrasts["ours"], contrasts["theirs"], claim["kind"], rules)
    alike = claim["kind"] in WITH_MARGIN and compared["verdict"] == HOLDS
    if alike and not _has_learnt(profile, contrasts["theirs"], head, compared["margin"], rules):
        compared |= {"verdict": UNDECIDED, "why": NOTHING_LEARNT, "borne_out_by_seeds": None}
    return entry | compared


def _has_learnt(profile: str, theirs: Contrast, head: str, margin: float, rules: Entry) -> bool:
    """Is a run above the untrained network by more than the margin? Not asked where that has no score of this
    head.
    """
    reference, missing = _probed(profile, [rules["reference"]], head)
    return bool(missing) or _interval([*theirs, (-1.0, reference[rules["reference"]])], rules)[0] > margin


def _interval(contrast: Contrast, rules: Entry) -> tuple[float, float]:
    """The bootstrap interval of a contrast, in points."""
    return interval(100 * replicates(contrast, rules["bootstrap"]["replicates"], rules["bootstrap"]["seed"]))


def _terms(side: str | list[str]) -> list[tuple[float, str]]:
    """A run as it is, or the lead of one run over another, as weighted runs."""
    return [(1.0, side)] if isinstance(side, str) else list(zip((1.0, -1.0), side, strict=True))


def _probed(profile: str, runs: list[str], head: str) -> tuple[dict[str, Probed], list[str]]:
    """What the runs predicted, and the names of those that the profile has no such score of."""
    scored = read_json(paths.metrics(profile, "probe"))
    missing = [run for run in dict.fromkeys(runs) if head not in scored.get(run, {})]
    return {run: _evidence(profile, run, head) for run in runs if run not in missing}, missing


def _evidence(profile: str, run: str, head: str) -> Probed:
    settings, confusions = load_settings(profile, run), []
    for seed in settings.seeds:
        path = confusion_file(profile, run, seed)
        if kept(path.with_suffix(".json"), None, beside=path) is None:
            raise InputError(
                f"{path}: missing, or of another score than the one beside it; run `dvc repro probe@{profile}`"
            )
        confusions.append(load_confusions(path, head))
    return Probed(np.stack(confusions), fingerprint(settings.data.probe_val.model_dump(mode="json")))


def _summary(contrast: Contrast) -> Entry:
    values = 100 * by_seed(contrast)
    return {
        "mean": _rounded(values.mean()),
        "std": _rounded(values.std(ddof=1) if len(values) > 1 else 0.0),
        "seeds": len(values),
    }


def _compare(ours: Contrast, theirs: Contrast, kind: str, rules: Entry) -> Entry:
    """The difference of two sides in points, its intervals, and the verdict."""
    difference = [*ours, *((-weight, run) for weight, run in theirs)]
    values, bounds = 100 * by_seed(difference), _interval(difference, rules)
    margin = float(100 * rules["margin"] * by_seed(theirs).mean())
    wanted, strict = side(kind, margin), seeds_interval(values)
    decided = verdict(bounds, wanted)
    compared = {
        "difference": _rounded(values.mean()),
        "interval_95": _rounded(bounds),
        "interval_95_seeds": _rounded(strict),
        "by_seed": _rounded(values),
        "images": ours[0][1].confusions.shape[1],
        "margin": _rounded(margin) if kind in WITH_MARGIN else None,
        "borne_out_by_seeds": None
        if strict is None or decided == UNDECIDED
        else verdict(strict, wanted) == decided,
    }
    return compared | {"verdict": decided, "why": _why(decided, wanted)}


def side(kind: str, margin: float) -> tuple[float, float]:
    """The open range in which a claim of this kind wants ours - theirs, in points."""
    sides = {
        "beats": (0.0, math.inf),
        "grows": (0.0, math.inf),
        "trails": (-math.inf, 0.0),
        "matches": (-margin, margin),
        "costs_little": (-margin, math.inf),
    }
    if kind not in sides:
        raise InputError(f"{CLAIMS}: unknown kind {kind!r}; choose one of: {', '.join(sides)}")
    return sides[kind]


def verdict(bounds: tuple[float, float], wanted: tuple[float, float]) -> str:
    """Holds where the interval `bounds` lies wholly in the open range `wanted`, fails where it lies wholly
    outside; else undecided.
    """
    if wanted[0] < bounds[0] and bounds[1] < wanted[1]:
        return HOLDS
    return FAILS if bounds[1] < wanted[0] or bounds[0] > wanted[1] else UNDECIDED


def _why(decided: str, wanted: tuple[float, float]) -> str:
    limits = " and ".join(
        f"{word} {limit:.2f}"
        for word, limit in zip(("above", "below"), wanted, strict=True)
        if math.isfinite(limit)
    )
    told = {
        HOLDS: "all of the interval is",
        FAILS: "none of the interval is",
        UNDECIDED: "the interval does not settle whether the difference is",
    }
    return f"{told[decided]} {limits}"


def _rounded(value: Any) -> Any:
    """To a ten-thousandth of a point, so that equal runs give equal files."""
    return None if value is None else np.round(value, 4).tolist()


def as_markdown(entries: Sequence[Entry], profile: str) -> str:
    """The page for reading: the rule, and a row for each entry of claims.json."""
    counts = ", ".join(
        f"{kind}: {sum(entry['verdict'] == kind for entry in entries)}" for kind in (HOLDS, FAILS, UNDECIDED)
    )
    rule = "\n\n".join(load_yaml(CLAIMS)["rule"])
    title = f"# The paper's claims at this scale, profile `{profile}`"
    return f"{title}\n\n{counts}. mIoU in percent, differences in points.\n\n{table(entries)}\n{rule}\n"


def table(entries: Sequence[Entry]) -> str:
    """A row for each entry, in Markdown."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    return "\n".join([*lines, *("| " + " | ".join(_cells(entry)) + " |" for entry in entries)]) + "\n"


def _cells(entry: Entry) -> list[str]:
    names = [" - ".join([run] if isinstance(run, str) else run) for run in entry["runs"].values()]
    doubt = r"\*" if entry["borne_out_by_seeds"] is False else ""
    return [
        entry["id"],
        entry["claim"],
        paper_figures(entry),
        " v. ".join(names),
        *(_mean(entry[side]) for side in ("ours", "theirs")),
        _number(entry["ours"]["seeds"], "d"),
        _number(entry["difference"], "+.2f"),
        _range(entry["interval_95"]),
        _range(entry["interval_95_seeds"]),
        _number(entry["margin"], ".2f"),
        f"undecided ({entry['why']})" if entry["difference"] is None else f"**{entry['verdict']}**{doubt}",
    ]


def paper_figures(entry: Entry) -> str:
    """The paper's own figures that a claim rests on."""
    pairs = [
        " v. ".join(f"{figure:.2f}" for figure in entry[key]) for key in ("paper", "paper_base") if entry[key]
    ]
    return " against ".join(pairs)


def _mean(summary: Entry) -> str:
    return INAPPLICABLE if summary["mean"] is None else f"{summary['mean']:.2f} ± {summary['std']:.2f}"


def difference(entry: Entry) -> str:
    """Ours - theirs in points with its interval, for reading."""
    return (
        INAPPLICABLE
        if entry["difference"] is None
        else f"{_number(entry['difference'], '+.2f')} {_range(entry['interval_95'])}"
    )


def _number(value: float | None, form: str) -> str:
    return INAPPLICABLE if value is None else f"{value:{form}}"


def _range(bounds: Sequence[float] | None) -> str:
    return INAPPLICABLE if bounds is None else f"[{bounds[0]:+.2f}, {bounds[1]:+.2f}]"
