"""A profile's figures, the extras' among them: where each stands; and `summary.json`, the headlines."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hgrl.core.experiment import Experiment, Run
from hgrl.core.files import read_json, write_json
from hgrl.core.results import read_extras
from hgrl.evaluation.probe import settings_of as probe_settings

TRACKED = {  # column of table 3 -> protocol and measure; the paper's protocol first
    **{name: ("paper", name) for name in ("j_mean", "f_mean")},
    **{f"field_{name}": ("field", name) for name in ("j_mean", "f_mean")},
    **{name: ("paper", name) for name in ("j_recall", "j_decay")},
}
Metrics = dict[str, Any]


def read_metrics(experiment: Experiment, stage: str) -> tuple[Metrics, Metrics]:
    """(All figures of a stage by run, the extras' among them; the extras' alone, as far as there are any).

    A stage that was not made yet has none."""
    extras, path = read_extras(experiment, stage), experiment.files.metrics(stage)
    metrics = read_json(path) if path.exists() else {}
    # of a run in both, the extras have further heads
    return {run: _joined(metrics.get(run, {}), extras.get(run, {})) for run in {**metrics, **extras}}, extras


def _joined(ours: Metrics, others: Metrics) -> Metrics:
    """Nested dicts as one; where both have a value, the first one's."""
    joined = ours | {key: value for key, value in others.items() if key not in ours}
    both = {key for key in ours.keys() & others.keys() if isinstance(ours[key], dict)}
    return joined | {key: _joined(ours[key], others[key]) for key in both}


def primary_set(experiment: Experiment) -> str:
    return next(iter(experiment.settings.data.labelled))


def headline(experiment: Experiment, stage: str, run: Run | None = None) -> str:
    """The head (probe) or layer (retrieval) whose figures are a run's headline, or the profile's."""
    if stage == "retrieval":
        return experiment.settings.retrieval.layers[0]
    return (probe_settings(run) if run else experiment.settings).probe.headline


def columns(experiment: Experiment, stage: str, run: Run | None) -> dict[str, tuple[str, ...]]:
    """Column of a table -> where its figure is in a run's metrics, without "_mean" and "_std".

    First the headline, on the primary set; then further sets, further heads on the primary set, and the
    headline's pixel accuracy. Tracking has no sets and no heads, but two protocols."""
    if stage == "tracking":
        return TRACKED
    settings, head = experiment.settings, headline(experiment, stage, run)
    primary, *others = settings.data.labelled
    heads = settings.retrieval.layers
    if stage == "probe":
        heads = (*settings.probe.heads, *settings.extra_heads)
    places = {"miou": (primary, head, "miou")} | {f"{name}_miou": (name, head, "miou") for name in others}
    places |= {f"{other.replace('-', '_')}_miou": (primary, other, "miou") for other in heads[1:]}
    return places | {"pixel_accuracy": (primary, head, "pixel_accuracy")}


def found(metrics: Any, place: Sequence[str]) -> Any:
    """The value at a place in nested dicts; None where the run has no such score."""
    for key in place:
        metrics = metrics.get(key) if isinstance(metrics, dict) else None
    return metrics


def write_summary(experiment: Experiment) -> Path:
    """results/<profile>/summary.json: every run's headline figures, in percent.

    {"probe": {set: {run: {"miou": {"mean", "std", "seeds"}, "lowest_class_iou"}}}, "retrieval": {set: {run:
    {"miou"}}}, "tracking": {run: {"j", "f", "field_j", "field_f"}}}: by the paper's protocol, and by the
    field's. lowest_class_iou: of each class's mean over the seeds."""
    summary: Metrics = {stage: _by_set(experiment, stage) for stage in ("probe", "retrieval")}
    tracked, _ = read_metrics(experiment, "tracking")
    places = {column.removesuffix("_mean"): place for column, place in TRACKED.items() if "_mean" in column}
    summary["tracking"] = {
        run: {
            name: _figure(row[protocol], measure)
            for name, (protocol, measure) in places.items()
            if row.get(protocol)
        }
        for run, row in tracked.items()
    }
    path = experiment.files.results / "summary.json"
    write_json(path, summary)
    return path


def _by_set(experiment: Experiment, stage: str) -> Metrics:
    metrics, _ = read_metrics(experiment, stage)
    sets: Metrics = {name: {} for name in experiment.settings.data.labelled}
    for run, by_set in metrics.items():
        head = headline(experiment, stage, experiment.run(run))
        for name in sets:
            if (row := found(by_set, (name, head))) is not None:
                sets[name][run] = {"miou": _figure(row, "miou")}
                if stage == "probe":
                    means = [value for key, value in row["iou"].items() if key.endswith("_mean")]
                    sets[name][run]["lowest_class_iou"] = _percent(min(means))
    return sets


def _figure(row: Metrics, name: str) -> Metrics:
    figures = {part: _percent(row[f"{name}_{part}"]) for part in ("mean", "std")}
    return figures | {"seeds": row["seeds"]}


def _percent(share: float) -> float:
    return round(100 * share, 4)
