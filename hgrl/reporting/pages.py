"""The generated parts of README.md, results/README.md and docs/, written from the committed results."""

import csv
import re
from collections.abc import Sequence
from typing import Any

from hgrl.core import paths
from hgrl.core.errors import InputError
from hgrl.core.experiment import load_experiment
from hgrl.core.files import read_json, write_text
from hgrl.core.paths import Files
from hgrl.reporting.claims import difference, paper_figures
from hgrl.reporting.figures.bsds import NAMES
from hgrl.reporting.tables import (
    FURTHER_HEADS,
    INAPPLICABLE,
    NOT_RUN,
    TITLES,
    formatted,
    markdown_table,
    table_file,
)

PROFILES = ("mini", "photos")
PAPER = {"table1": "paper", "table2": "paper", "table3": "paper, as copied"}
LEADING = "photos"  # the README's first columns are its, where it has been made
COLUMNS = {"table1": {"miou": "mIoU"}, "table2": {"miou": "mIoU"}, "table3": {"j_mean": "J", "f_mean": "F"}}
FURTHER = {"table3": {"field_j_mean": "J, field", "field_f_mean": "F, field"}}  # that the paper has not
# The README's rows: title, run in table 1, run in table 3; image-level methods train no embedding to track by
HEADLINES = (
    ("untrained network", "random", "random"),
    ("Lab colour, no network", "lab-position", "lab"),
    ("InstFeat", "instfeat", None),
    ("SegSort", "segsort", "segsort"),
    ("MoCo", "moco", None),
    ("MoCo, 2.5 times longer", "moco-long", None),
    ("ours (cns 5, 20)", "ours-cns5-20", "ours-cns5-20"),
    ("ours, HED's edges", "ours-hed", "ours-hed"),
)
# A profile may be made row by row: it joins the pages once these rows of table 1 are there
RACE = ("random", "instfeat", "segsort", "moco", "ours-cns5-20")
BSDS_ROWS = ("se", "se_multiscale", "hed", "ucm_fast", "ucm_best")
BSDS_SCORES = ("ods", "ois", "ap", "covering_ods", "pri_ods", "vi_ods")
BSDS_HEADINGS = ("ODS", "OIS", "AP", "covering", "PRI", "VI")
PARTS = {  # of grouping, as `benchmarks/grouping.py` times them
    "read": "reading the photograph",
    "SE": "edges: the structured forest, sharpened",
    "spectral": "the spectral signal",
    "OWT-UCM": "watershed and hierarchy",
    "tree": "cutting to 40 regions, distances",
    "write": "writing edge map and tree",
}
GPB_OWT_UCM = (0.7263, 0.7595, 0.7266, 0.5884, 0.8273, 1.6896)  # its scores in BSDS500's own files
Row = dict[str, Any]


def update_readme() -> None:
    """Write the committed results into every page; InputError for a page without its markers."""
    for page, contents in generated().items():
        path = paths.HOME / page
        text = path.read_text()
        for name, content in contents.items():
            pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
            if not pattern.search(text):
                raise InputError(f"{path}: no <!-- {name} --> ... <!-- end --> around its results; add it")
            text = pattern.sub(lambda match, content=content: f"{match[1]}{content}\n{match[2]}", text)
        write_text(path, text)


def generated() -> dict[str, dict[str, str]]:
    """Page -> name -> what stands between `<!-- name -->` and `<!-- end -->`."""
    tables = {name: f"**{title}**\n\n{side_by_side(name)}" for name, title in TITLES.items()}
    return {
        "README.md": {"results": headlines()},
        "results/README.md": {**tables, "claims": claims()},
        "docs/region-trees.md": {"bsds500": bsds500(), "speed": grouping_speed()},
    }


def headlines() -> str:
    """The README's table: the probe's mIoU on every labelled set and tracking's J, the paper's beside ours.

    Of the profiles in which the race is run; real photographs lead."""
    sets = {profile: _labelled_sets(profile) for profile in PROFILES if _is_raced(profile)}
    profiles = sorted(sets, key=lambda profile: profile != LEADING)
    probe, tracking = _by_run("table1", profiles), _by_run("table3", profiles)
    header = ["", "probe, mIoU: paper", "tracking, J: paper"]
    places = [(0, probe, "paper_miou"), (1, tracking, "paper_j_mean")]
    for profile in profiles:
        primary, *further = sets[profile] or [profile]
        names = {"miou": primary} | {f"{name}_miou": name for name in further}
        for column, name in names.items():
            header.append(f"probe: {profile}{f', {name}' if sets[profile] else ''}")
            places.append((0, {profile: probe[profile]}, column))
        header.append(f"J: {profile}")
        places.append((1, {profile: tracking[profile]}, "j_mean"))
    cells = []
    for title, *runs in HEADLINES:
        cells.append([title])
        for k, tables, column in places:
            rows = [by_run[runs[k]] for by_run in tables.values() if runs[k] in by_run]
            cells[-1].append(_headline(rows, column))
    return markdown_table(cells, header)


def _is_raced(profile: str) -> bool:
    """Whether none of the rows of `RACE` waits for its run."""
    by_run = _by_run("table1", [profile])[profile]
    return all(by_run.get(run, {}).get("miou_mean", NOT_RUN) != NOT_RUN for run in RACE)


def _headline(rows: list[Row], column: str) -> str:
    """A cell of the README's table; the paper's figure is in the first profile that has the row."""
    if not rows or f"{column}_mean" not in rows[0]:
        return rows[0].get(column, INAPPLICABLE) if rows else INAPPLICABLE
    score = shown(rows[0], column)
    return "not run yet" if score == NOT_RUN else score


def _by_run(name: str, profiles: Sequence[str]) -> dict[str, dict[str, Row]]:
    """profile -> run -> its first row of a table."""
    return {profile: {row["run"]: row for row in reversed(_rows(profile, name))} for profile in profiles}


def _labelled_sets(profile: str) -> list[str]:
    """The sets that a profile was last scored on, the primary first; none where that is not known."""
    summary = Files(profile, paths.HOME).results / "summary.json"
    scored = read_json(summary)["probe"] if summary.exists() else {}
    return [name for name in load_experiment(profile).settings.data.labelled if name in scored]


def side_by_side(name: str) -> str:
    """One table: method, cross-image negatives, the paper's scores, ours in every profile as `headlines`."""
    tables = {profile: rows for profile in PROFILES if _is_raced(profile) and (rows := _rows(profile, name))}
    if len({len(rows) for rows in tables.values()}) > 1:
        remedy = f"run `python -m hgrl tables` for {', '.join(tables)}"
        raise InputError(f"{name} has more rows in one profile: {remedy}")
    header = ["method", "cross-image negatives", "paper: data, epochs"]
    header += [f"{PAPER[name]}: {head}" for head in COLUMNS[name].values()]
    columns = COLUMNS[name] | FURTHER.get(name, {})
    shared = {
        key: head
        for key, head in columns.items()
        if all(f"{key}_mean" in rows[0] for rows in tables.values())
    }
    header += [f"{source}: {head}" for source in tables for head in shared.values()]
    cells = []
    for rows in zip(*tables.values(), strict=True):
        data, epochs = (rows[0].get(f"paper_{key}", INAPPLICABLE) for key in ("pretraining_data", "epochs"))
        trained_on = INAPPLICABLE if epochs == INAPPLICABLE else f"{data}, {epochs}"
        paper = [rows[0]["method"], rows[0]["cns"], trained_on]
        paper += [rows[0][f"paper_{column}"] for column in COLUMNS[name]]
        cells.append([*paper, *(shown(row, column) for row in rows for column in shared)])
    return markdown_table(cells, header)


def bsds500() -> str:
    """The grouping's scores on BSDS500, from results/bsds500/summary.json; "" where that was not made."""
    path = paths.HOME / "results" / "bsds500" / "summary.json"
    if not path.exists():
        return ""
    summary = read_json(path)
    seconds = {f"ucm_{preset}": found["total"] for preset, found in summary["seconds_per_image"].items()}
    rows = []
    for row in BSDS_ROWS:
        scores = [formatted("{:.3f}", summary.get(row, {}).get(score)) for score in BSDS_SCORES]
        rows.append([NAMES[row], *scores, formatted("{:.2f}", seconds.get(row))])
    rows.append(["gPb-owt-ucm, published", *(f"{score:.3f}" for score in GPB_OWT_UCM), "minutes"])
    return markdown_table(rows, ["", *BSDS_HEADINGS, "s per image"])


def grouping_speed() -> str:
    """What each part of grouping takes, from results/bsds500/speed.json; "" where that was not made."""
    path = paths.HOME / "results" / "bsds500" / "speed.json"
    if not path.exists():
        return ""
    presets = dict(sorted(read_json(path)["presets"].items(), key=lambda item: item[1]["total"]))
    rows = [[title, *(_share(found, part) for found in presets.values())] for part, title in PARTS.items()]
    rows.append(["in all", *(f"{1000 * found['total']:.0f} ms" for found in presets.values())])
    return markdown_table(rows, ["", *(f"`{preset}`" for preset in presets)])


def _share(found: Row, part: str) -> str:
    seconds = found["parts"][part]
    return f"{1000 * seconds:.1f} ms, {100 * seconds / found['total']:.1f} %" if seconds else INAPPLICABLE


def claims() -> str:
    """A row per claim: the paper's figures, then difference and verdict in every profile that was judged."""
    files = {profile: Files(profile, paths.HOME).claims for profile in PROFILES}
    judged = {profile: read_json(path) for profile, path in files.items() if path.exists()}
    rows = []
    for entries in zip(*judged.values(), strict=True):
        found = [cell for entry in entries for cell in (difference(entry), entry["verdict"])]
        rows.append([entries[0]["id"], entries[0]["claim"], paper_figures(entries[0]), *found])
    columns = [f"{profile}: {what}" for profile in judged for what in ("difference", "verdict")]
    return markdown_table(rows, ["", "claim", "paper", *columns])


def shown(row: Row, column: str) -> str:
    """A score as "mean ± deviation"; of one seed the mean alone, of none the reason why. Extras say so."""
    mean, std, seeds = row[f"{column}_mean"], row[f"{column}_std"], row["seeds"]
    score = f"{mean} ± {std}" if std != INAPPLICABLE and seeds.isdigit() and int(seeds) > 1 else mean
    made = row.get("extras", INAPPLICABLE)
    return f"{score} (extras)" if made not in (INAPPLICABLE, FURTHER_HEADS) else score


def _rows(profile: str, name: str) -> list[Row]:
    path = table_file(Files(profile, paths.HOME), name)
    return list(csv.DictReader(path.open())) if path.exists() else []
