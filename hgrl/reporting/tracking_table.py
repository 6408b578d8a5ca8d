"""What table 3 says beside J and F: the grid, what a row costs, and what its mean rests on."""

from collections.abc import Sequence
from statistics import mean
from typing import Any

from hgrl.core.experiment import Experiment, Run
from hgrl.core.files import read_json
from hgrl.core.results import COST, ORIGIN
from hgrl.evaluation.sequences import REFERENCES
from hgrl.pretraining.methods import REGISTRY
from hgrl.reporting import scores

COLUMNS = {"": "paper", "field_": "field"}  # prefix of a column's name -> the protocol
FINE = 4  # the embedding's stride: rows that are read there are marked
NOTES = (
    "J and F by two protocols: the paper's own, and (`field`) CRW's, by which others are read today "
    "(docs/tracking.md). `as copied`: the paper's figures, which mix protocols. A row marked * is read at "
    "stride 4; the others at stride 8, or they carry masks by motion.",
    "What a row learnt from, costs and rests on. Seconds are of one core: to train a seed, and to track all "
    "videos by `field`. J's interval is a 95 % bootstrap over sequences; `won`: on how many of them its J is "
    "the higher one.",
)
SCORES = {
    "method": "method",
    "run": "run",
    "j_mean_mean": "J",
    "f_mean_mean": "F",
    "field_j_mean_mean": "J, field",
    "field_f_mean_mean": "F, field",
    "seeds": "seeds",
    "paper_j_mean": "J, as copied",
    "paper_f_mean": "F, as copied",
    "extras": "extras",
}
ABOUT = {
    "run": "run",
    "pretraining_data": "learnt from",
    "epochs": "epochs",
    "parameters": "parameters",
    "training_seconds": "training, s",
    "tracking_seconds": "tracking, s",
    "j_interval": "J, over sequences",
    "won_identity": "won: identity",
    "won_lab": "won: lab",
    "field_j_interval": "J, field",
    "field_won_identity": "won: identity, field",
    "field_won_lab": "won: lab, field",
}
PARTS = (SCORES, ABOUT)
Row = dict[str, Any]


def beside_scores(experiment: Experiment, run: Run, metrics: Row, absent: str) -> Row:
    """Columns of a run that was tracked; `absent` where there is no such figure.

    stride, parameters, training_seconds, tracking_seconds, and of both protocols J's interval over sequences,
    the lead over Lab and identity in points with its interval, and on how many of the sequences it is won."""
    row: Row = dict.fromkeys(("stride", "parameters", "training_seconds", "tracking_seconds"), absent)
    for name in ("stride", "parameters"):
        if (value := scores.found(metrics, ("paper", f"{name}_mean"))) is not None:
            row[name] = f"{round(value):,}" if name == "parameters" else str(round(value))
    for name, value in _costs(experiment, run).items():
        row[name] = f"{value:.1f}"
    for prefix, column in COLUMNS.items():
        own = metrics.get(column, {})
        row[f"{prefix}j_interval"] = _interval(own["j_low"], own["j_high"]) if "j_low" in own else absent
        for other in REFERENCES:
            lead = own.get("lead", {}).get(other)
            points = f"{100 * lead['mean']:+.1f} {_interval(lead['low'], lead['high'])}" if lead else absent
            row[f"{prefix}lead_{other}"] = points
            row[f"{prefix}won_{other}"] = f"{lead['won']} of {lead['of']}" if lead else absent
    return row


def _interval(low: float, high: float) -> str:
    return f"[{100 * low:.1f}, {100 * high:.1f}]"


def _costs(experiment: Experiment, run: Run) -> dict[str, float]:
    """Mean over seeds of the seconds of one core, as far as they were measured."""
    extra = run.name in experiment.extras("tracking")
    files, found = experiment.files.extras if extra else experiment.files, {}
    places = {"tracking_seconds": files.result("tracking", f"{run.name}{ORIGIN}")}
    if run.method in REGISTRY:
        places["training_seconds"] = experiment.files.result("pretraining", f"{run.trained}{ORIGIN}")
    for name, path in places.items():
        costs = (read_json(path).get(COST) if path.exists() else None) or {}
        seconds = [own["field"] if isinstance(own, dict) else own for own in costs.values()]
        if seconds and None not in seconds:
            found[name] = mean(seconds)
    return found


def part_of(rows: Sequence[Row], columns: Row) -> tuple[list[Row], Row]:
    """The rows of one part of the Markdown, and its columns, as far as the rows have them.

    A reason why a row has no scores stands there once; only rows with scores have a line about costs."""
    there = {name: title for name, title in columns.items() if name in rows[0]}
    if columns is ABOUT:
        return [row for row in rows if _scored(row)], there
    return [_marked(row) if _scored(row) else _told_once(row) for row in rows], there


def _scored(row: Row) -> bool:
    return str(row["seeds"]).isdigit()


def _marked(row: Row) -> Row:
    return {**row, "method": f"{row['method']} *"} if row["stride"] == str(FINE) else row


def _told_once(row: Row) -> Row:
    return row | {f"{name}_mean": "-" for name in scores.TRACKED if name != "j_mean"} | {"seeds": "-"}
