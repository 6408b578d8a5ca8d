"""A profile's results as one page: tables, claims, curves, pictures, settings, times; and what is missing."""

import csv
from collections.abc import Callable, Iterator, Mapping
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import uniform_filter1d

from hgrl.core import paths
from hgrl.core.errors import InputError
from hgrl.core.experiment import Experiment
from hgrl.core.files import read_json
from hgrl.core.results import ORIGIN, read_results
from hgrl.reporting.claims import BETTER, FAILS, HOLDS, MEAN, UNDECIDED, difference, paper_figures
from hgrl.reporting.figures.compressed import smallest
from hgrl.reporting.figures.losses import read_losses
from hgrl.reporting.html_page import data_uri, table, write_page
from hgrl.reporting.pages import shown
from hgrl.reporting.summary import summarise_results
from hgrl.reporting.tables import STAGES, TITLES, formatted, table_file

VERDICTS = {HOLDS: "good", BETTER: "good", FAILS: "bad", UNDECIDED: "open"}
TRIALS = {"sweep": "Sweep", "ablations": "Ablations", "tuning": "Trials of the methods' settings"}
PICTURE_WIDTH, WINDOW, POINTS = 1000, 9, 240  # pixels; steps of the centred mean; drawn points of a curve
WIDTH, HEIGHT, LEFT, BELOW = 320, 170, 44, 22  # of a chart
Curves = Mapping[str, tuple[np.ndarray, np.ndarray]]


def write_report(experiment: Experiment, path: Path | None = None) -> Path:
    """One self-contained HTML page of what is in results/<profile>; answers where it lies.

    path: default artifacts/<profile>/report.html. Parts without results say so. InputError where a file
    lies that is not such a page, or a file of results is damaged."""
    path = path or experiment.files.artifacts / "report.html"
    parts = {"tables": _tables, "claims": _claims, "curves": _curves, "trials": _trials}
    parts |= {"pictures": _pictures, "settings": _settings, "origins": _origins}
    filled = {name: _filled(name, part, experiment) for name, part in parts.items()}
    said = escape(summarise_results(experiment).strip())
    write_page(path, "report.html", "report", profile=escape(experiment.profile), said=said, **filled)
    return path


def _filled(name: str, part: Callable[[Experiment], Iterator[str]], experiment: Experiment) -> str:
    try:
        return "\n".join(part(experiment)) or _nothing(experiment)
    except (KeyError, TypeError, ValueError, OSError) as error:
        reason = f"{type(error).__name__}: {error}"
        problem = f"{experiment.files.results}: its {name} are damaged, or of an older version ({reason})"
        raise InputError(f"{problem}; `dvc repro` makes them anew") from error


def _nothing(experiment: Experiment) -> str:
    remedy = f"python -m hgrl repro --profile {experiment.profile} --extras"
    return f'<p class="faint">Nothing here yet; <code>{escape(remedy)}</code> makes it.</p>'


def _tables(experiment: Experiment) -> Iterator[str]:
    for name, title in TITLES.items():
        path = table_file(experiment.files, name)
        yield f"<h3>{escape(title)}</h3>"
        if not path.exists():
            yield _nothing(experiment)
            continue
        rows = list(csv.DictReader(path.open(encoding="utf-8")))
        if extra := experiment.extras(STAGES[name]):
            yield f'<p class="faint">Of the extras: {escape(", ".join(extra))}.</p>'
        columns = _columns(list(rows[0]))
        cells = [[_table_cell(row, column) for column in columns] for row in rows]
        yield table(cells, list(columns.values()))


def _columns(names: list[str]) -> dict[str, str]:
    """Columns of a table in the page's order, the paper's figure before ours -> their headings."""
    columns: dict[str, str] = {}
    for name in (name for name in names if not name.startswith("paper_") and not name.endswith("_std")):
        score = name.removesuffix("_mean")
        for paper in {f"paper_{name}", f"paper_{score}"} & set(names):
            columns[paper] = f"paper: {score.replace('_', ' ')}"
        columns[name] = score.replace("_", " ")
    further = (name for name in names if name.startswith("paper_") and name not in columns)
    return columns | {name: f"paper: {name.removeprefix('paper_').replace('_', ' ')}" for name in further}


def _table_cell(row: dict[str, str], column: str) -> str:
    score = column.removesuffix("_mean")
    return shown(row, score) if f"{score}_std" in row else row[column]


def _claims(experiment: Experiment) -> Iterator[str]:
    if not experiment.files.claims.exists():
        return
    header = ["", "claim", "verdict", "paper", "ours", "theirs", "difference, 95 % interval", "runs", "why"]
    rows, entries = [], read_json(experiment.files.claims)
    for entry in entries:
        sides = [formatted(MEAN, entry[side]["mean"], entry[side]["std"]) for side in ("ours", "theirs")]
        runs = [run if isinstance(run, str) else " - ".join(run) for run in entry["runs"].values()]
        rows.append([entry["id"], entry["claim"], entry["verdict"], paper_figures(entry), *sides])
        rows[-1] += [difference(entry), " v. ".join(runs), entry["why"]]
    found = [entry["verdict"] for entry in entries]
    yield f"<p>{escape(', '.join(f'{kind}: {found.count(kind)}' for kind in VERDICTS))}.</p>"
    yield table(rows, header, VERDICTS)


def _curves(experiment: Experiment) -> Iterator[str]:
    files = experiment.files
    charts, without = [], []
    for name, curve in read_results(experiment, "convergence").items():
        points = np.array(curve["epochs"], float), 100 * np.array(curve["miou_mean"], float)
        charts.append(chart(f"{name}: mIoU over epochs", {"mean": points}))
    for path in sorted((files.results / "pretraining").glob("*.csv")):
        if losses := _losses(path):
            charts.append(chart(f"{path.stem}: loss over steps", losses))
        else:
            without.append(path.stem)
    if charts:
        text = f"Losses are a line per seed, centred means over {WINDOW} logged steps."
        text += f" No losses here: {', '.join(without)}." if without else ""
        yield f'<p class="faint">{escape(text)}</p><div class="charts">{"".join(charts)}</div>'


def _losses(path: Path) -> Curves:
    """Seed -> (steps, smoothed losses)."""
    return {
        seed: (steps, uniform_filter1d(losses, min(WINDOW, len(losses)), mode="nearest"))
        for seed, (steps, losses) in read_losses(path).items()
    }


def chart(title: str, curves: Curves) -> str:
    """An SVG of lines over one another, with the ends of both axes; at most POINTS points a line."""
    x, y = (np.concatenate([curve[k] for curve in curves.values()] or [[]]) for k in (0, 1))
    finite = np.isfinite(x) & np.isfinite(y)
    if not finite.any():
        return f"<figure><figcaption>{escape(title)}: no figures</figcaption></figure>"
    (left, right), (low, high) = ((axis[finite].min(), axis[finite].max()) for axis in (x, y))
    lines = []
    for k, (name, (xs, ys)) in enumerate(curves.items()):
        chosen = np.unique(np.linspace(0, len(xs) - 1, min(len(xs), POINTS)).round().astype(int))
        chosen = chosen[np.isfinite(ys[chosen])]
        across = LEFT + (xs[chosen] - left) / ((right - left) or 1) * (WIDTH - LEFT - 8)
        down = 8 + (high - ys[chosen]) / ((high - low) or 1) * (HEIGHT - BELOW - 16)
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, down, strict=True))
        lines.append(
            f'<polyline class="line{k % 4}" points="{points}"><title>{escape(name)}</title></polyline>'
        )
    floor = HEIGHT - BELOW
    axes = f'<path d="M{LEFT - 4} 4V{floor}H{WIDTH - 4}"/>'
    ends = [(LEFT - 8, 13, "end", high), (LEFT - 8, floor - 4, "end", low)]
    ends += [(LEFT, HEIGHT - 6, "start", left), (WIDTH - 8, HEIGHT - 6, "end", right)]
    texts = [f'<text x="{a}" y="{b}" text-anchor="{anchor}">{v:.4g}</text>' for a, b, anchor, v in ends]
    drawn = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
    caption = f"<figcaption>{escape(title)}</figcaption>"
    return f"<figure>{drawn}{axes}{''.join(lines + texts)}</svg>{caption}</figure>"


def _trials(experiment: Experiment) -> Iterator[str]:
    for stage, title in TRIALS.items():
        rows = []
        for name, found in read_results(experiment, stage).items():
            changed = ", ".join(f"{key} {value}" for key, value in found.get("overrides", {}).items())
            figures = [found.get(f"miou_{part}") for part in ("mean", "std")]
            scores = [None if figure is None else 100 * figure for figure in figures]
            rows.append([name, found.get("method", "-"), changed or "-", formatted(MEAN, *scores)])
        if rows:
            yield f"<h3>{escape(title)}: mIoU in percent on the tune split</h3>"
            yield table(rows, ["name", "method", "changed", "mIoU"])


def _pictures(experiment: Experiment) -> Iterator[str]:
    for path in sorted(experiment.files.figures(committed=True).glob("*.png")):
        name = escape(path.stem.replace("-", " ").replace("_", " "))
        image = f'<img alt="{name}" loading="lazy" src="{_small(path)}">'
        yield f"<details><summary>{name}</summary>{image}</details>"


def _small(path: Path) -> str:
    with Image.open(path) as image:
        kind, content = smallest(image, PICTURE_WIDTH)
    return data_uri(content, kind)


def _settings(experiment: Experiment) -> Iterator[str]:
    for path in (paths.profile_file(experiment.profile), paths.PARAMS):
        text = path.read_text(encoding="utf-8", errors="replace")
        yield f"<details><summary>{escape(path.name)}</summary><pre>{escape(text)}</pre></details>"


def _origins(experiment: Experiment) -> Iterator[str]:
    """Hours by stage; and each combination of machine and versions that results were made with."""
    stages: dict[str, list[float]] = {}
    machines: dict[tuple[str, ...], int] = {}
    for path in sorted(experiment.files.results.rglob(f"*{ORIGIN}.json")):
        found = read_json(path)
        stages.setdefault(path.parent.name, []).append(found.get("seconds") or 0.0)
        versions = ", ".join(f"{name} {number}" for name, number in (found.get("versions") or {}).items())
        about = (found.get("date"), found.get("processor"), found.get("cores"), found.get("card"))
        key = *("-" if value is None else str(value) for value in (*about, found.get("python"))), versions
        machines[key] = machines.get(key, 0) + 1
    if stages:
        yield "<h3>Time by stage</h3>"
        rows = [[name, len(seconds), f"{sum(seconds) / 60:.1f}"] for name, seconds in stages.items()]
        yield table(rows, ["stage", "results", "minutes in all"])
        yield "<h3>Machines and versions</h3>"
        header = ["date", "processor", "cores", "card", "Python", "versions", "results"]
        yield table([[*key, count] for key, count in machines.items()], header)
