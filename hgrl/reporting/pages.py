"""The README's results: the tables of several profiles side by side, written between its markers. Never
typed.
"""

from __future__ import annotations

import csv
import re
from typing import Any

from hgrl.core import paths
from hgrl.core.errors import InputError
from hgrl.core.files import read_json, write_text
from hgrl.reporting.claims import difference, paper_figures, read_claims
from hgrl.reporting.tables import TITLES

PROFILES = ("mini", "photos")
COLUMNS = {"table1": ["miou"], "table2": ["miou"], "table3": ["j_mean", "f_mean"]}
BSDS_ROWS = {
    "se": "edges, sharpened, one scale",
    "se_multiscale": "edges, sharpened, three scales",
    "hed": "HED edges, narrow, from scratch",
    "ucm_fast": "contour map, `fast`",
    "ucm_best": "contour map, `best`",
}
BSDS_HEADS = {
    "ods": "ODS",
    "ois": "OIS",
    "ap": "AP",
    "covering_ods": "covering",
    "pri_ods": "PRI",
    "vi_ods": "VI",
}
# BSDS500's own files
OFFICIAL = {
    "ods": 0.7263,
    "ois": 0.7595,
    "ap": 0.7266,
    "covering_ods": 0.5884,
    "pri_ods": 0.8273,
    "vi_ods": 1.6896,
}
HEADS = {"miou": "mIoU", "j_mean": "J", "f_mean": "F"}


def update_readme() -> None:
    """Replace what stands between `<!-- table1 -->` and `<!-- end -->` (likewise 2, 3, bsds500 and claims) by
    the committed results.
    """
    path = paths.HOME / "README.md"
    text = path.read_text()
    for name, content in {
        **{name: side_by_side(name) for name in COLUMNS},
        "bsds500": bsds500(),
        "claims": claims(),
    }.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not pattern.search(text):
            raise InputError(
                f"{path}: no <!-- {name} --> ... <!-- end --> to write the results into; put the markers back"
            )
        text = pattern.sub(lambda match, content=content: match[1] + content + match[2], text)
    write_text(path, text)


def side_by_side(name: str) -> str:
    """One table in Markdown: method, cross-image negatives, the paper's scores, ours in every profile that
    has results.
    """
    tables = {profile: rows for profile in PROFILES if (rows := _rows(profile, name))}
    columns = COLUMNS[name]
    header = [
        "method",
        "cross-image negatives",
        "paper: data, epochs",
        *(f"paper: {HEADS[c]}" for c in columns),
    ]
    header += [f"{profile}: {HEADS[c]}" for profile in tables for c in columns]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    if len({len(rows) for rows in tables.values()}) > 1:
        raise InputError(
            f"{name} has other rows in one profile than in another; run `python -m hgrl tables` for {', '.join(tables)}"
        )
    for rows in zip(*tables.values(), strict=True):
        scores = [_score(row, column) for row in rows for column in columns]
        lines.append(
            "| "
            + " | ".join(
                [
                    rows[0]["method"],
                    rows[0]["cns"],
                    _trained_on(rows[0]),
                    *(rows[0][f"paper_{c}"] for c in columns),
                    *scores,
                ]
            )
            + " |"
        )
    return f"**{TITLES[name]}**\n\n" + "\n".join(lines) + "\n"


def _trained_on(row: dict[str, Any]) -> str:
    data, epochs = row.get("paper_pretraining_data", "-"), row.get("paper_epochs", "-")
    return f"{data}, {epochs}" if epochs != "-" else "-"


def bsds500() -> str:
    """The grouping on BSDS500 in Markdown, from results/bsds500/summary.json; "" where that was not made."""
    path = paths.HOME / "results" / "bsds500" / "summary.json"
    if not path.exists():
        return ""
    summary = read_json(path)
    lines = [
        "| | " + " | ".join(BSDS_HEADS.values()) + " | s an image |",
        "|---|" + "---|" * (len(BSDS_HEADS) + 1),
    ]
    for row, title in BSDS_ROWS.items():
        found = summary.get(row, {})
        seconds = summary.get("seconds_per_image", {}).get(row.removeprefix("ucm_"), {}).get("total")
        scores = [f"{found[figure]:.3f}" if figure in found else "-" for figure in BSDS_HEADS]
        lines.append(f"| {title} | {' | '.join(scores)} | {'-' if seconds is None else f'{seconds:.2f}'} |")
    official = [f"{OFFICIAL[figure]:.3f}" if figure in OFFICIAL else "-" for figure in BSDS_HEADS]
    lines.append(f"| gPb-owt-ucm, published | {' | '.join(official)} | minutes |")
    return "\n".join(lines) + "\n"


def claims() -> str:
    """The verdicts in Markdown: a row for each claim, the paper's figures, the difference and the verdict in
    every profile that was judged.
    """
    judged = {profile: read_claims(profile) for profile in PROFILES if paths.claims(profile).exists()}
    if not judged:
        return ""
    columns = [title for profile in judged for title in (f"{profile}: difference", f"{profile}: verdict")]
    lines = ["| | claim | paper | " + " | ".join(columns) + " |", "|" + "---|" * (3 + len(columns))]
    for entries in zip(*judged.values(), strict=True):
        first = entries[0]
        found = [cell for entry in entries for cell in (difference(entry), entry["verdict"])]
        lines.append("| " + " | ".join([first["id"], first["claim"], paper_figures(first), *found]) + " |")
    return "\n".join(lines) + "\n"


def _rows(profile: str, name: str) -> list[dict[str, Any]]:
    path = paths.results(profile) / "tables" / f"{name}.csv"
    return list(csv.DictReader(path.open())) if path.exists() else []


def _score(row: dict[str, Any], column: str) -> str:
    mean, std, seeds = row[f"{column}_mean"], row[f"{column}_std"], row["seeds"]
    return f"{mean} ± {std}" if std != "-" and seeds.isdigit() and int(seeds) > 1 else mean
