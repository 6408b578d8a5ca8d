"""The paper's tables, generated from the runs' scores: one row for each of the paper's, its own figure beside
ours.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from hgrl.core import paths
from hgrl.core.files import read_json, write_text
from hgrl.core.settings import Settings, load_run, load_settings, load_yaml, trained_run
from hgrl.evaluation.stage import PRETRAINED, unavailable
from hgrl.pretraining.methods import REGISTRY
from hgrl.pretraining.stage import manifest_path, set_name

ROWS = Path(__file__).parent / "paper_tables.yaml"
STAGES = {"table1": "probe", "table2": "retrieval", "table3": "tracking"}
MISSING = "the paper's figure alone"
NOT_RUN = "not run in this profile"
INAPPLICABLE = "-"
TITLES = {
    "table1": "Segmentation probe (paper's table 1): mIoU in percent",
    "table2": "Segment retrieval (paper's table 2): IoU in percent",
    "table3": "Mask tracking (paper's table 3): J and F in percent",
}

Row = dict[str, Any]


def write_tables(profile: str) -> list[Path]:
    """`table1` to `table3` of a profile as CSV and Markdown; returns the files."""
    written = []
    for name in STAGES:
        rows = table(profile, name)
        for suffix, text in (
            (".csv", as_csv(rows)),
            (".md", as_markdown(rows, f"{TITLES[name]}, profile `{profile}`")),
        ):
            path = paths.results(profile) / "tables" / f"{name}{suffix}"
            write_text(path, text)
            written.append(path)
    return written


def table(profile: str, name: str) -> list[Row]:
    """The rows of one table, the paper's first, each with the same columns in the same order. Scores are in
    percent.
    """
    specification = load_yaml(ROWS)[name]
    metrics = read_json(paths.metrics(profile, STAGES[name]))
    rows = [
        _row(profile, specification, row, metrics)
        for row in (*specification["paper"], *specification["extra"])
    ]
    columns = dict.fromkeys(column for row in rows for column in row)
    ordered = [column for column in columns if not column.startswith("paper_")] + [
        column for column in columns if column.startswith("paper_")
    ]
    return [{column: row.get(column, INAPPLICABLE) for column in ordered} for row in rows]


def _row(profile: str, specification: Row, row: Row, metrics: dict[str, Any]) -> Row:
    run, method = _run_and_name(row, metrics)
    about = {"method": method, "run": run or INAPPLICABLE, "cns": row.get("cns", INAPPLICABLE)}
    if row.get("class_frequency"):
        scores = _class_frequency(profile, specification)
    elif run is None or run not in metrics:
        scores = _unscored(
            specification,
            MISSING if run is None else unavailable(load_settings(profile, run), run) or NOT_RUN,
        )
    else:
        scores = {**_pretraining(profile, run), **_scores(_places(specification, row), metrics[run])}
    return {**about, **scores, **{key: value for key, value in row.items() if key.startswith("paper_")}}


def _run_and_name(row: Row, metrics: dict[str, Any]) -> tuple[str | None, str]:
    """The run that a row shows and what the row is called: by its stand-in, which it then names, where that
    alone was scored.
    """
    own, other = row["run"], row.get("stand_in")
    return (
        (other, f"{row['method']} (stand-in: {other})")
        if own not in metrics and other in metrics
        else (own, row["method"])
    )


def _places(specification: Row, row: Row) -> Row:
    """Where a row's scores lie: as in the rest of the table, unless the row names a head or layer of its own."""
    return specification | {
        "scores": specification["scores"] | row.get("scores", {}),
        "classes": row.get("classes", specification.get("classes")),
    }


def _pretraining(profile: str, run: str) -> Row:
    settings, method = load_settings(profile, trained_run(run)), load_run(run).method
    if method not in REGISTRY:
        return {
            "pretraining_data": "ImageNet, labels" if method == PRETRAINED else "None",
            "epochs": INAPPLICABLE,
        }
    return {
        "pretraining_data": _data(profile, settings, REGISTRY[method].needs_classes),
        "epochs": settings.pretrain.run_epochs,
    }


def _data(profile: str, settings: Settings, labelled: bool) -> str:
    """Folders and number of images that a run learnt from; without the number where the manifest has none."""
    sources = (settings.data.probe_train,) if labelled else settings.data.pretrain
    folders = (
        " + ".join(dict.fromkeys(source.folder for source in sources))
        if settings.data.scenes is None
        else "scenes"
    )
    own = labelled or sources == load_settings(profile).data.pretrain
    if not own and settings.data.scenes is not None:
        folders += ": " + " + ".join(source.split for source in sources)
    described = (
        ["probe_train" if labelled else "pretrain"] if own else [set_name(source) for source in sources]
    )
    sets = read_json(manifest_path(profile))["sets"]
    if not own and not sets.keys() >= set(described):
        return folders
    files = sum(sets[name]["files"] for name in described)
    edges = f"; HED edges, trunk {_trunk(profile)}" if settings.grouping.edges == "hed" else ""
    return (
        f"{folders}, labels ({files} images)"
        if labelled
        else f"{folders} ({round(files * settings.data.fraction)} images{edges})"
    )


def _trunk(profile: str) -> str:
    """Where the edge network's trunk started: "from scratch" or "ImageNet weights FILE (sha256 ...)"."""
    return read_json(paths.hed_summary(profile))["trunk"]


def _scores(specification: Row, metrics: dict[str, Any]) -> Row:
    scores: Row = {}
    for column, place in specification["scores"].items():
        mean, std = _find(metrics, f"{place}_mean"), _find(metrics, f"{place}_std")
        scores |= {f"{column}_mean": _percent(mean), f"{column}_std": _percent(std)}
    scores["seeds"] = _seeds(metrics)
    classes = _find(metrics, specification["classes"]) if specification.get("classes") else None
    for key, value in (classes or {}).items():
        if key.endswith("_mean"):
            scores[f"iou_{key.removesuffix('_mean')}"] = _percent(value)
    return scores


def _unscored(specification: Row, reason: str) -> Row:
    columns = [f"{column}_{part}" for column in specification["scores"] for part in ("mean", "std")]
    return dict.fromkeys(["pretraining_data", "epochs", *columns, "seeds"], reason)


def _class_frequency(profile: str, specification: Row) -> Row:
    frequency = read_json(manifest_path(profile))["class_frequency"]
    blank = _unscored(specification, INAPPLICABLE)
    return blank | {f"iou_{name}": _percent(share) for name, share in frequency.items()}


def _find(metrics: Any, place: str) -> Any:
    """The value at a dotted place of nested dicts; None where the run has no such score."""
    for key in filter(None, place.split(".")):
        metrics = metrics.get(key) if isinstance(metrics, dict) else None
    return metrics


def _seeds(metrics: Any) -> int | None:
    if "seeds" in metrics:
        return metrics["seeds"]
    return next(
        (seeds for value in metrics.values() if isinstance(value, dict) and (seeds := _seeds(value))), None
    )


def _percent(value: float | None) -> str:
    return INAPPLICABLE if value is None else f"{100 * value:.2f}"


def as_csv(rows: list[Row]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def as_markdown(rows: list[Row], title: str) -> str:
    """A Markdown table with mean and deviation in one cell, for reading."""
    merged = [_with_deviations(row) for row in rows]
    header = list(merged[0])
    lines = [f"# {title}", "", "| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(str(row[column]) for column in header) + " |" for row in merged]
    return "\n".join(lines) + "\n"


def _with_deviations(row: Row) -> Row:
    merged = {}
    for column, value in row.items():
        name = column.removesuffix("_mean")
        if column.endswith("_std"):
            continue
        std = row.get(f"{name}_std")
        merged[name] = (
            f"{value} ± {std}"
            if column.endswith("_mean") and _is_number(value) and _is_number(std)
            else value
        )
    return merged


def _is_number(value: Any) -> bool:
    return str(value).replace(".", "", 1).isdigit()
