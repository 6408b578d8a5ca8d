"""The paper's tables from the runs' scores: a row for each of the paper's, its own figure beside ours."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from hgrl.core.data_settings import DataSettings
from hgrl.core.errors import InputError
from hgrl.core.experiment import READ_WEIGHTS, Experiment, Run
from hgrl.core.files import read_json, remove_unfinished, write_text
from hgrl.core.loading import load_yaml
from hgrl.core.paths import Files
from hgrl.core.results import ORIGIN
from hgrl.data.stage import set_name
from hgrl.evaluation.networks import PRETRAINED, unavailable
from hgrl.pretraining.methods import REGISTRY
from hgrl.reporting import scores, tracking_table

ROWS = Path(__file__).parent / "paper_tables.yaml"
STAGES = {"table1": "probe", "table2": "retrieval", "table3": "tracking"}
TITLES = {
    "table1": "Segmentation probe (paper's table 1): mIoU in percent",
    "table2": "Segment retrieval (paper's table 2): IoU in percent",
    "table3": "Mask tracking (paper's table 3): J and F in percent",
}
NOT_RUN = "not run in this profile"
EXTRA_NOT_RUN = "extras: not run here"  # `make repro EXTRAS=1` makes them
EXTRAS_NOTE = "when a row was made that `make repro` leaves as committed and `make repro EXTRAS=1` makes anew"
FURTHER_HEADS = "further heads"  # the row is no extra, but some of its columns are
INAPPLICABLE = "-"
Row = dict[str, Any]


def write_tables(experiment: Experiment) -> list[Path]:
    """`table1` to `table3` of a profile as CSV and Markdown, and its `summary.json`; returns the files.

    Rows that were not made say so. InputError where there is nothing to write."""
    written, made = [], [experiment.files.metrics(stage) for stage in STAGES.values()]
    if not any(path.exists() for path in made):
        raise InputError(f"{made[0]}: no scores of this profile; run `dvc repro` to make them")
    remove_unfinished(experiment.files.results)
    for name, title in TITLES.items():
        path, rows, buffer = table_file(experiment.files, name), table_rows(experiment, name), io.StringIO()
        writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(path, buffer.getvalue())
        heading = f"# {title}, profile `{experiment.profile}`\n\n{_explained(experiment, name)}"
        page = f"{heading}{_tracking_page(rows) if STAGES[name] == 'tracking' else _as_markdown(rows)}\n"
        write_text(path.with_suffix(".md"), page)
        written += [path, path.with_suffix(".md")]
    return [*written, scores.write_summary(experiment)]


def _explained(experiment: Experiment, name: str) -> str:
    """What the headline column holds, and which rows a plain run does not make anew."""
    said, stage = [], STAGES[name]
    if stage != "tracking":
        where = f"set `{scores.primary_set(experiment)}`, read by `{scores.headline(experiment, stage)}`"
        said.append(f"`miou`: {where}; a run that is read by one head alone, by that.")
    if experiment.extras(stage):
        said.append(f"`extras`: {EXTRAS_NOTE}.")
    return f"{' '.join(said)}\n\n" if said else ""


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
    table, stage = load_yaml(ROWS)[name], STAGES[name]
    metrics, extras = scores.read_metrics(experiment, stage)
    rows = [_row(experiment, stage, row, metrics, extras) for row in (*table["paper"], *table["extra"])]
    columns = dict.fromkeys(column for row in rows for column in row)
    ordered = sorted(columns, key=lambda column: column.startswith("paper_"))  # stable: the paper's come last
    return [{column: row.get(column, INAPPLICABLE) for column in ordered} for row in rows]


def _row(experiment: Experiment, stage: str, row: Row, metrics: Row, extras: Row) -> Row:
    name, method = row["run"], row["method"]
    if name not in metrics and row.get("stand_in") in metrics:
        name = row["stand_in"]
        method = f"{method} (stand-in: {name})"
    run = None if name is None else experiment.run(name)
    about = {"method": _with_reading(method, row, run), "run": name or INAPPLICABLE}
    about["cns"] = row.get("cns", INAPPLICABLE)
    if experiment.settings.stand_in:
        about["stand_in"] = _stand_in(experiment, row)
    columns = scores.columns(experiment, stage, run)
    parts = [f"{column}_{part}" for column in columns for part in ("mean", "std")]
    if row.get("class_frequency"):
        frequency = read_json(experiment.files.manifest)["class_frequency"][scores.primary_set(experiment)]
        figures = dict.fromkeys(("pretraining_data", "epochs", *parts, "seeds"), INAPPLICABLE)
        figures |= {f"iou_{name}": _percent(value) for name, value in frequency.items()}
    elif name in metrics:
        data, epochs = _pretraining(experiment, run)
        figures = {"pretraining_data": data, "epochs": epochs} | _figures(metrics[name], columns)
        if stage == "tracking":
            figures |= tracking_table.beside_scores(experiment, run, metrics[name], INAPPLICABLE)
    else:
        reason = unavailable(experiment, run) or not_run(experiment, stage, name)
        figures = dict.fromkeys(("pretraining_data", "epochs", *parts, "seeds"), reason)
    if extras or experiment.extras(stage):
        figures["extras"] = _made(experiment, stage, name) if name in extras else INAPPLICABLE
    return about | figures | {key: value for key, value in row.items() if key.startswith("paper_")}


def not_run(experiment: Experiment, stage: str, run: str) -> str:
    return EXTRA_NOT_RUN if run in experiment.extras(stage) else NOT_RUN


def _made(experiment: Experiment, stage: str, run: str) -> str:
    """When figures were made that a plain run does not make anew."""
    if run not in experiment.extras(stage):
        return FURTHER_HEADS
    origin = experiment.files.extras.result(stage, f"{run}{ORIGIN}")
    return read_json(origin)["date"] if origin.exists() else "committed"


def _stand_in(experiment: Experiment, row: Row) -> str:
    """What stands in the profile for the data sets of the paper's row."""
    named = str(row.get("data", row.get("paper_pretraining_data", ""))).split(" + ")
    told = experiment.settings.stand_in
    names = [name for part in named if (name := part.partition(" x ")[0]) in told]
    return "; ".join(f"{told[name]} for {name}" for name in names) or INAPPLICABLE


def _with_reading(method: str, row: Row, run: Run | None) -> str:
    """The method, and the value that the run's settings have where the row asks for one."""
    if "reading" not in row:
        return method
    *_, key = keys = row["reading"].split(".")
    value = scores.found(run.settings.model_dump(), keys)
    return method if value is None else f"{method} ({key}: {value})"


def _pretraining(experiment: Experiment, run: Run) -> tuple[str, Any]:
    """What a run learnt from, folders and the manifest's number of images, and for how many epochs."""
    if run.method not in REGISTRY:
        foreign = "ImageNet, labels" if run.method == PRETRAINED else "its authors' data"
        return foreign if run.method in READ_WEIGHTS else "None", INAPPLICABLE
    kind, settings = REGISTRY[run.method], experiment.run(run.trained).settings
    if kind.needs_clips and not kind.needs_flow and settings.data.clips is not None:
        return _videos(experiment, settings.data), settings.pretrain.run_epochs
    labelled = kind.needs_classes
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
    moved = ", in motion" if kind.needs_clips else ""
    return f"{folders} ({round(files * data.fraction)} images{moved}{edges})", epochs


def _videos(experiment: Experiment, data: DataSettings) -> str:
    """The unlabelled videos that a run learnt from, by the number of their frames in the manifest."""
    (first, last), found = data.clips.part, read_json(experiment.files.manifest)["sets"].get("clips")
    folder = "scenes" if data.scenes is not None else data.clips.folder
    frames = f" ({round((last - first) * found['files'])} frames)" if found else ""
    return f"videos of {folder}{frames}"


def _figures(metrics: Row, columns: Mapping[str, Sequence[str]]) -> Row:
    figures: Row = {}
    for column, (*place, name) in columns.items():
        for part in ("mean", "std"):
            figures[f"{column}_{part}"] = _percent(scores.found(metrics, (*place, f"{name}_{part}")))
    headline = scores.found(metrics, next(iter(columns.values()))[:-1]) or {}
    figures["seeds"] = headline.get("seeds", INAPPLICABLE)
    for key, value in headline.get("iou", {}).items():
        if key.endswith("_mean"):
            figures[f"iou_{key.removesuffix('_mean')}"] = _percent(value)
    return figures


def _percent(value: float | None) -> str:
    return INAPPLICABLE if value is None else f"{100 * value:.2f}"


def _as_markdown(rows: list[Row], columns: dict[str, str] | None = None) -> str:
    """Mean and deviation in one cell, of one seed the mean. columns: name -> title; None: all."""
    columns = columns or {name: name.removesuffix("_mean") for name in rows[0] if not name.endswith("_std")}
    return markdown_table([{title: _cell(row, name) for name, title in columns.items()} for row in rows])


def _tracking_page(rows: list[Row]) -> str:
    """Scores first; then what each row learnt from, costs, and rests on, for the rows that have scores."""
    parts = []
    for said, columns in zip(tracking_table.NOTES, tracking_table.PARTS, strict=True):
        parts += [said, _as_markdown(*tracking_table.part_of(rows, columns))]
    return "\n\n".join(parts)


def _cell(row: Row, column: str) -> str:
    mean, std = row[column], row.get(f"{column.removesuffix('_mean')}_std")
    numbers = all(str(value).replace(".", "", 1).isdigit() for value in (mean, std))
    return f"{mean} ± {std}" if numbers and str(row["seeds"]) != "1" else mean
