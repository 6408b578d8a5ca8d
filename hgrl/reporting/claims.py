"""A verdict on every claim of the paper: its figures, ours, the paired difference with its intervals."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hgrl.core.cache import fingerprint
from hgrl.core.errors import InputError
from hgrl.core.experiment import Experiment
from hgrl.core.files import read_json, remove_unfinished, write_json, write_text
from hgrl.core.loading import load_yaml
from hgrl.core.results import read_extras
from hgrl.evaluation.probe import load_confusions
from hgrl.evaluation.scoring import mean_and_deviation
from hgrl.metrics.bootstrap import interval
from hgrl.metrics.segmentation import miou
from hgrl.reporting.bootstrap import (
    Contrast,
    Probed,
    by_seed,
    detectable,
    detectable_by_seeds,
    paired,
    replicates,
    seeds_interval,
)
from hgrl.reporting.scores import headline, primary_set
from hgrl.reporting.tables import EXTRA_NOT_RUN, NOT_RUN, formatted, markdown_table

CLAIMS = Path(__file__).parent / "claims.yaml"
HOLDS, FAILS, UNDECIDED = "holds", "does not hold here", "undecided"
BETTER = "better than claimed"  # of a claim that ours equals theirs
NOTHING_LEARNT = (
    "theirs is not shown to be above an untrained network by more than the margin: a match would mean nothing"
)
WITH_MARGIN = ("matches", "costs_little")
VALUES = (
    *("difference", "interval_95", "interval_95_seeds", "by_seed", "images", "margin"),
    *("detectable", "detectable_by_seeds", "borne_out_by_seeds"),
)
MEAN, POINTS, RANGE = "{:.2f} ± {:.2f}", "{:+.2f}", "[{:+.2f}, {:+.2f}]"
Entry = dict[str, Any]


def write_claims(experiment: Experiment) -> list[Entry]:
    """Judge every claim; writes results/<profile>/claims.json, and claims.md from it.

    Figures are in percent, those of a lead or a difference in points: the primary set's, by the probe's first
    head. Claims whose runs the profile has not scored are undecided; of those on runs of the extras the
    committed verdict stands (`judge_extras`). Raises InputError where a scored run's matrices are missing."""
    rules, path = load_yaml(CLAIMS), experiment.files.claims
    remove_unfinished(path.parent)
    found = {entry["id"]: entry for entry in read_extras(experiment, "claims")}
    entries = []
    for claim in _claims(experiment, rules):
        entry, extra = _entry(experiment, claim), _extra_runs(experiment, claim)
        stands = extra and found.get(entry["id"], {}).get("runs") == entry["runs"]
        if extra and not stands:
            nothing = dict.fromkeys(("ours", "theirs"), _summary([]))
            undecided = {"verdict": UNDECIDED, "why": f"{EXTRA_NOT_RUN}: {', '.join(extra)}"}
            entries.append(entry | nothing | dict.fromkeys(VALUES) | undecided)
        else:
            entries.append(found[entry["id"]] if stands else _judge(experiment, claim, rules))
    write_json(path, entries)
    entries = read_claims(experiment)
    write_text(path.with_suffix(".md"), as_markdown(entries, experiment.profile))
    return entries


def judge_extras(experiment: Experiment) -> list[Entry]:
    """Judge the claims on runs of the extras; writes results/<profile>/metrics/extras/claims.json."""
    rules = load_yaml(CLAIMS)
    chosen = [claim for claim in _claims(experiment, rules) if _extra_runs(experiment, claim)]
    entries = [_judge(experiment, claim, rules) for claim in chosen]
    write_json(experiment.files.extras.metrics("claims"), entries)
    return entries


def _claims(experiment: Experiment, rules: Entry) -> list[Entry]:
    """The claims, with the runs that stand for them in this profile."""
    return [claim | claim.get("in_profile", {}).get(experiment.profile, {}) for claim in rules["claims"]]


def _runs(claim: Entry, side: str) -> list[str]:
    """One run, or the two of a lead."""
    return [claim[side]] if isinstance(claim[side], str) else claim[side]


def _extra_runs(experiment: Experiment, claim: Entry) -> list[str]:
    extras = experiment.extras("probe")
    return [run for side in ("ours", "theirs") for run in _runs(claim, side) if run in extras]


def read_claims(experiment: Experiment) -> list[Entry]:
    """The entries of a profile; none where they have not been made yet."""
    path = experiment.files.claims
    return read_json(path) if path.exists() else []


def _entry(experiment: Experiment, claim: Entry) -> Entry:
    """What an entry of claims.json says before it is judged."""
    entry = {key: claim.get(key) for key in ("id", "claim", "kind", "paper", "paper_base")}
    entry["score"] = claim.get("score", f"{headline(experiment, 'probe')}.miou")
    entry["extras"] = bool(_extra_runs(experiment, claim))
    return entry | {"runs": {side: claim[side] for side in ("ours", "theirs")}}


def _judge(experiment: Experiment, claim: Entry, rules: Entry) -> Entry:
    """One entry of claims.json, over the seeds that all its runs have."""
    entry = _entry(experiment, claim)
    head, sides = entry["score"].removesuffix(".miou"), {side: _runs(claim, side) for side in entry["runs"]}
    probed = {run: _probed(experiment, run, head) for runs in sides.values() for run in runs}
    there = [run for run in probed if probed[run]]
    probed |= dict(zip(there, paired([probed[run] for run in there]), strict=True)) if there else {}
    contrasts = {}
    for name, runs in sides.items():
        found = [probed[run] for run in runs]
        contrasts[name] = list(zip((1.0, -1.0)[: len(runs)], found, strict=True)) if all(found) else []
        entry[name] = _summary(contrasts[name])
    if missing := [run for run in probed if run not in there]:
        undecided = {"verdict": UNDECIDED, "why": f"{NOT_RUN}: {', '.join(missing)}"}
        return entry | dict.fromkeys(VALUES) | undecided
    compared = _compare(**contrasts, kind=claim["kind"], rules=rules)
    if claim["kind"] in WITH_MARGIN and compared["verdict"] == HOLDS:
        untrained = _probed(experiment, rules["reference"], head)
        if untrained and not _lead(contrasts["theirs"], untrained, rules) > compared["margin"]:
            compared |= {"verdict": UNDECIDED, "why": NOTHING_LEARNT, "borne_out_by_seeds": None}
    return entry | compared


def _lead(theirs: Contrast, untrained: Probed, rules: Entry) -> float:
    """The lower end of the interval of their lead over an untrained network, in points."""
    runs = paired([*(run for _, run in theirs), untrained])
    weights = (*(weight for weight, _ in theirs), -1.0)
    return interval(_replicates(list(zip(weights, runs, strict=True)), rules))[0]


def _probed(experiment: Experiment, run: str, head: str) -> Probed | None:
    """What a run predicted on the primary set; None where the profile has no score of this head."""
    extra, primary = run in experiment.extras("probe"), primary_set(experiment)
    files = experiment.files.extras if extra else experiment.files
    metrics = read_extras(experiment, "probe") if extra else read_json(files.metrics("probe"))
    if head not in metrics.get(run, {}).get(primary, {}):
        return None
    found, path = read_json(files.result("probe", run))["seeds"], files.all_confusions(run)
    seeds = sorted(map(int, found))  # JSON keeps them as texts, of which "10" is before "2"
    confusions = load_confusions(path, head)
    scores = [found[str(seed)][primary][head]["miou"] for seed in seeds]
    if len(scores) != len(confusions) or not np.allclose(scores, [*map(miou, confusions.sum(1))], rtol=1e-9):
        stage = "extras/dvc.yaml:probe" if extra else "probe"
        remedy = f"run `dvc repro {stage}@{experiment.profile}`"
        raise InputError(f"{path}: matrices of other scores than those beside it; {remedy}")
    split = fingerprint(experiment.run(run).settings.data.primary.val.model_dump(mode="json"))
    return Probed(confusions, split, tuple(seeds))


def _replicates(contrast: Contrast, rules: Entry) -> np.ndarray:
    """Bootstrap values of a contrast, in points."""
    return 100 * replicates(contrast, rules["bootstrap"]["replicates"], rules["bootstrap"]["seed"])


def _summary(contrast: Contrast) -> Entry:
    if not contrast:
        return {"mean": None, "std": None, "seeds": None}
    values = 100 * by_seed(contrast)
    mean, std = mean_and_deviation(values)
    return {"mean": _rounded(mean), "std": _rounded(std), "seeds": len(values)}


def _compare(ours: Contrast, theirs: Contrast, kind: str, rules: Entry) -> Entry:
    """The difference of two sides in points, its intervals, and the verdict."""
    difference = [*ours, *((-weight, run) for weight, run in theirs)]
    values, drawn = 100 * by_seed(difference), _replicates(difference, rules)
    bounds = interval(drawn)
    margin = float(100 * rules["margin"] * by_seed(theirs).mean())
    wanted, by_seeds = side(kind, margin), seeds_interval(values)
    decided = verdict(bounds, wanted)
    sure = None if by_seeds is None or decided == UNDECIDED else verdict(by_seeds, wanted) == decided
    images, shown_margin = ours[0][1].confusions.shape[1], margin if kind in WITH_MARGIN else None
    seen = detectable(drawn.std()), detectable_by_seeds(values)
    figures = map(_rounded, (values.mean(), bounds, by_seeds, values, images, shown_margin, *seen))
    judged = {"verdict": decided, "why": _why(decided, wanted)}
    return dict(zip(VALUES, (*figures, sure), strict=True)) | judged


def side(kind: str, margin: float) -> tuple[float, float]:
    """The open range in which a claim of this kind wants ours - theirs, in points."""
    above = (0.0, math.inf)
    sides = {"beats": above, "grows": above, "trails": (-math.inf, 0.0)}
    sides |= {"matches": (-margin, margin), "costs_little": (-margin, math.inf)}
    if kind not in sides:
        raise InputError(f"{CLAIMS}: unknown kind {kind!r}; choose one of: {', '.join(sides)}")
    return sides[kind]


def verdict(bounds: tuple[float, float], wanted: tuple[float, float]) -> str:
    """A claim holds if the interval `bounds` lies wholly in the open range `wanted`, fails if wholly outside.

    Else it is undecided. Above a range with two ends (ours equals theirs) it is better than claimed."""
    if wanted[0] < bounds[0] and bounds[1] < wanted[1]:
        return HOLDS
    if bounds[0] > wanted[1]:
        return BETTER if math.isfinite(wanted[0]) else FAILS
    return FAILS if bounds[1] < wanted[0] else UNDECIDED


def _why(decided: str, wanted: tuple[float, float]) -> str:
    if decided == BETTER:
        return f"all of the interval is above {wanted[1]:.2f}"
    told = {HOLDS: "all of the interval is", FAILS: "none of the interval is"}
    unsettled = "the interval does not settle whether the difference is"
    named = zip(("above", "below"), wanted, strict=True)
    limits = (f"{word} {limit:.2f}" for word, limit in named if math.isfinite(limit))
    return f"{told.get(decided, unsettled)} {' and '.join(limits)}"


def _rounded(value: Any) -> Any:
    """To a ten-thousandth of a point, so that equal runs give equal files."""
    return None if value is None else np.round(value, 4).tolist()


def as_markdown(entries: Sequence[Entry], profile: str) -> str:
    """The page for reading: a row for each entry of claims.json, and the rule."""
    found = [entry["verdict"] for entry in entries]
    counts = ", ".join(f"{kind}: {found.count(kind)}" for kind in (HOLDS, BETTER, FAILS, UNDECIDED))
    title = f"# The paper's claims at this scale, profile `{profile}`"
    units = f"{counts}. mIoU in percent, differences in points."
    table, rules = markdown_table([_row(entry) for entry in entries]), load_yaml(CLAIMS)
    power = markdown_table([_power_row(entry) for entry in entries if entry["difference"] is not None])
    parts = [title, units, table, *rules["rule"]]
    if power:
        parts += ["## What could have been seen", *rules["power"], power]
    return "\n\n".join(parts) + "\n"


def _power_row(entry: Entry) -> dict[str, str]:
    between = np.std(entry["by_seed"], ddof=1) if len(entry["by_seed"]) > 1 else None
    return {
        "": entry["id"],
        "claim": entry["claim"],
        "seeds": str(len(entry["by_seed"])),
        "images": str(entry["images"]),
        "difference": formatted(POINTS, entry["difference"]),
        "deviation by seed": formatted("{:.2f}", between),
        "detectable": formatted("{:.2f}", entry["detectable"]),
        "by the seeds alone": formatted("{:.2f}", entry["detectable_by_seeds"]),
    }


def _row(entry: Entry) -> dict[str, str]:
    names = [run if isinstance(run, str) else " - ".join(run) for run in entry["runs"].values()]
    doubt = r"\*" if entry["borne_out_by_seeds"] is False else ""
    judged, extras = entry["difference"] is not None, " (extras)" if entry["extras"] else ""
    return {
        "": entry["id"],
        "claim": entry["claim"],
        "paper": paper_figures(entry),
        "runs": " v. ".join(names),
        **{side: formatted(MEAN, entry[side]["mean"], entry[side]["std"]) for side in ("ours", "theirs")},
        "seeds": formatted("{}", entry["ours"]["seeds"]),
        "difference": formatted(POINTS, entry["difference"]),
        "95 % interval": formatted(RANGE, *(entry["interval_95"] or [None])),
        "by the seeds alone": formatted(RANGE, *(entry["interval_95_seeds"] or [None])),
        "margin": formatted("{:.2f}", entry["margin"]),
        "verdict": f"**{entry['verdict']}**{doubt}{extras}" if judged else f"{UNDECIDED} ({entry['why']})",
    }


def paper_figures(entry: Entry) -> str:
    """The paper's own figures that a claim rests on."""
    pairs = [entry[key] for key in ("paper", "paper_base") if entry[key]]
    return " against ".join(" v. ".join(f"{figure:.2f}" for figure in pair) for pair in pairs)


def difference(entry: Entry) -> str:
    """Ours - theirs in points with its interval, for reading."""
    return formatted(f"{POINTS} {RANGE}", entry["difference"], *(entry["interval_95"] or [None]))
