"""Where the results lie: what `make repro` ends with."""

from __future__ import annotations

from hgrl.core import paths
from hgrl.core.settings import load_settings


def report(profile: str) -> str:
    """A few lines for the terminal about a profile that was made."""
    folders = {
        "tables": paths.results(profile) / "tables",
        "figures": paths.figures(profile, committed=True),
        "scores": paths.results(profile) / "metrics",
        "executed notebooks": paths.executed_notebook(profile, "x").parent,
    }
    if load_settings(profile).data.scenes is None:
        folders["pictures of images"] = paths.figures(profile, committed=False)
    lines = [f"\nEverything of profile '{profile}' is made:"]
    lines += [f"  {name + ':':<20}{folder.relative_to(paths.HOME)}/" for name, folder in folders.items()]
    return "\n".join(
        [
            *lines,
            "Next: `make lab` opens the notebooks; `dvc metrics show` and `dvc plots show` print and draw the scores.",
        ]
    )
