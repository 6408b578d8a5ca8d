"""The paper's tables from the runs' scores: a row for each of the paper's, its own figure beside ours."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from hgrl.core.experiment import Experiment, Run
from hgrl.core.files import read_json, remove_unfinished, write_text
from hgrl.core.loading import load_yaml
from hgrl.core.paths import Files
from hgrl.data.stage import set_name
from hgrl.evaluation.networks import PRETRAINED, unavailable
from hgrl.pretraining.methods import REGISTRY

ROWS = Path(__file__).parent / "paper_tables.yaml"
STAGES = {"table1": "probe", "table2": "retrieval", "table3": "tracking"}
TITLES = {
    "table1": "Segmentation probe (paper's table 1): mIoU in percent",
    "table2": "Segment retrieval (paper's table 2): IoU in percent",
    "table3": "Mask tracking (paper's table 3): J and F in percent",
}
PAPER_ONLY = "the paper's figure alone"
NOT_RUN = "not run in this profile"
INAPPLICABLE = "-"
Row = dict[str, Any]


def write_tables(experiment: Experiment) -> list[Path]:
    """`table1` to `table3` of a profile as CSV and Markdown; returns the files."""
    written = []
    remove_unfinished(experiment.files.results)
    for name, title in TITLES.items():
        path, rows, buffer = table_file(experiment.files, name), table_rows(experiment, name), io.StringIO()
        writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(path, buffer.getvalue())
        page = f"# {title}, profile `{experiment.profile}`\n\n{_as_markdown(rows)}\n"
        write_text(path.with_suffix(".md"), page)
        written += [path, path.with_suffix(".md")]
    return written


def markdown_table(rows: Sequence[Any], headers: str | Sequence[str] = "keys") -> str:
    """A table in GitHub's Markdown, every cell as it is; "keys": rows are dicts. No newline at its end."""
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def formatted(form: str, *values: float | None) -> str:
    """Values in a format, such as "{:.2f}"; "-" if one of them is None."""
    return INAPPLICABLE if None in values else form.format(*values)


def table_file(files: Files, name: str) -> Path:
    """A table as CSV; as Markdown it lies beside it."""
    return files.results / "tables" / f"{name}.csv"


def table_rows(experiment: Experiment, name: str) -> list[Row]:
    """The rows of one table, the paper's first, all with the same columns in one order. Scores in percent."""
    table, metrics = load_yaml(ROWS)[name], read_json(experiment.files.metrics(STAGES[name]))
    if name != "table3":
        primary = next(iter(experiment.settings.data.labelled))
        metrics = {run: scores.get(primary, {}) for run, scores in metrics.items()}
    rows = [_row(experiment, table, row, metrics) for row in (*table["paper"], *table["extra"])]
    columns = dict.fromkeys(column for row in rows for column in row)
    ordered = sorted(columns, key=lambda column: column.startswith("paper_"))  # stable: the paper's come last
    return [{column: row.get(column, INAPPLICABLE) for column in ordered} for row in rows]


def _row(experiment: Experiment, table: Row, row: Row, metrics: Row) -> Row:
    run, method = row["run"], row["method"]
    if run not in metrics and row.get("stand_in") in metrics:
        run = row["stand_in"]
        method = f"{method} (stand-in: {run})"
    places = table["scores"] | row.get("scores", {})  # a row may name a head of its own
    columns = (f"{column}_{part}" for column in places for part in ("mean", "std"))
    columns = ["pretraining_data", "epochs", *columns, "seeds"]
    if row.get("class_frequency"):
        frequency = read_json(experiment.files.manifest)["class_frequency"]
        frequency = frequency[next(iter(experiment.settings.data.labelled))]
        scores = dict.fromkeys(columns, INAPPLICABLE)
        scores |= {f"iou_{name}": _percent(value) for name, value in frequency.items()}
    elif run in metrics:
        classes = row.get("classes", table.get("classes"))
        data, epochs = _pretraining(experiment, experiment.run(run))
        scores = {"pretraining_data": data, "epochs": epochs} | _scores(metrics[run], places, classes)
    else:
        reason = PAPER_ONLY if run is None else unavailable(experiment, experiment.run(run)) or NOT_RUN
        scores = dict.fromkeys(columns, reason)
    about = {"method": method, "run": run or INAPPLICABLE, "cns": row.get("cns", INAPPLICABLE)}
    return about | scores | {key: value for key, value in row.items() if key.startswith("paper_")}


def _pretraining(experiment: Experiment, run: Run) -> tuple[str, Any]:
    """What a run learnt from, folders and the manifest's number of images, and for how many epochs."""
    if run.method not in REGISTRY:
        return "ImageNet, labels" if run.method == PRETRAINED else "None", INAPPLICABLE
    labelled, settings = REGISTRY[run.method].needs_classes, experiment.run(run.trained).settings
    data, sets = settings.data, read_json(experiment.files.manifest)["sets"]
    epochs = settings.pretrain.run_epochs
    sources = (data.label_source,) if labelled else data.pretrain
    common = labelled or sources == experiment.settings.data.pretrain
    folders = " + ".join(dict.fromkeys(source.folder for source in sources))
    if data.scenes is not None:
        folders = "scenes" if common else "scenes: " + " + ".join(source.split for source in sources)
    shared = ["labels" if labelled else "pretrain"]
    names = shared if common else [set_name(source) for source in sources]
    if not sets.keys() >= set(names):
        return folders, epochs
    files, edges = sum(sets[name]["files"] for name in names), ""
    if labelled:
        return f"{folders}, labels ({files} images)", epochs
    if settings.grouping.edges == "hed":
        edges = f"; HED edges, trunk {read_json(experiment.files.result('hed', 'hed'))['trunk']}"
    return f"{folders} ({round(files * data.fraction)} images{edges})", epochs


def _scores(metrics: Row, places: Mapping[str, str], classes: str | None) -> Row:
    scores: Row = {}
    for column, place in places.items():
        for part in ("mean", "std"):
            scores[f"{column}_{part}"] = _percent(_found(metrics, f"{place}_{part}"))
    scores["seeds"] = _seeds(metrics)
    for key, value in (_found(metrics, classes) or {} if classes else {}).items():
        if key.endswith("_mean"):
            scores[f"iou_{key.removesuffix('_mean')}"] = _percent(value)
    return scores


def _found(metrics: Any, place: str) -> Any:
    """The value at a dotted place of nested dicts; None where the run has no such score."""
    for key in place.split("."):
        metrics = metrics.get(key) if isinstance(metrics, dict) else None
    return metrics


def _seeds(metrics: Row) -> int | None:
    inner = (_seeds(value) for value in metrics.values() if isinstance(value, dict))
    return metrics["seeds"] if "seeds" in metrics else next(filter(None, inner), None)


def _percent(value: float | None) -> str:
    return INAPPLICABLE if value is None else f"{100 * value:.2f}"


def _as_markdown(rows: list[Row]) -> str:
    """Mean and deviation in one cell, for reading."""
    columns = {name: name.removesuffix("_mean") for name in rows[0] if not name.endswith("_std")}
    return markdown_table([{title: _cell(row, name) for name, title in columns.items()} for row in rows])


def _cell(row: Row, column: str) -> str:
    mean, std = row[column], row.get(f"{column.removesuffix('_mean')}_std")
    numbers = all(str(value).replace(".", "", 1).isdigit() for value in (mean, std))
    return f"{mean} ± {std}" if numbers else mean
