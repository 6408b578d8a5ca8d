"""What pictures and notebooks call a run: its row of the paper's tables, not its key in params.yaml."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hgrl.core.loading import load_yaml

ROWS = Path(__file__).parents[1] / "paper_tables.yaml"


class Names(dict[str, str]):
    """{run: name}; a run without a row goes by its key."""

    def __missing__(self, run: str) -> str:
        return run


def run_names(table: str) -> Names:
    """{run: name} of "table1", "table2" or "table3", as {"ours-cns5-20": "Ours, cns 5 and 20"}.

    Rows that would have one name are told apart by what else the run's key says: "MoCo", "MoCo, long"."""
    rows, named = load_yaml(ROWS)[table], {}
    for row in (*rows["paper"], *rows["extra"]):
        for run in (row["run"], row.get("stand_in")):
            if run is not None:
                named.setdefault(run, _row_name(row))
    alike = {name: [run for run in named if named[run] == name] for name in named.values()}
    return Names({run: _with_rest(run, alike[name], name) for run, name in named.items()})


def renamed(by_run: dict[str, Any], table: str) -> dict[str, Any]:
    """The same values by the runs' names."""
    names = run_names(table)
    return {names[run]: value for run, value in by_run.items()}


def _row_name(row: dict[str, Any]) -> str:
    name = re.sub(r" \((for|stand-in for) .*?\)", "", row["method"])
    if name != "Ours":
        return name
    numbers = re.findall(r"\d+", str(row.get("cns"))) or ["0"]
    return f"Ours, cns {' and '.join(numbers)}"


def _with_rest(run: str, alike: Iterable[str], name: str) -> str:
    """A row's name, and the parts of the run's key that not all runs of this name share."""
    shared = set.intersection(*(set(other.split("-")) for other in alike))
    rest = [part for part in run.split("-") if part not in shared and not re.fullmatch(r"cns\d+|\d", part)]
    return ", ".join([name, *([" ".join(rest)] if rest else [])])
