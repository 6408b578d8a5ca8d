"""What of a profile's results is there, and how to make the rest: what `make repro` ends with."""

from pathlib import Path

from hgrl.core import paths
from hgrl.core.experiment import Experiment
from hgrl.reporting.tables import STAGES, TITLES, table_file


def summarise_results(experiment: Experiment) -> str:
    """Lines for the terminal: what is there and where, what is missing and the command that makes it."""
    profile, there, missing = experiment.profile, [], []
    for name, (folder, patterns) in _expected(experiment).items():
        line = f"  {name + ':':<20}{folder.relative_to(paths.HOME)}/"
        made = {pattern: [path.name for path in folder.glob(pattern)] for pattern in patterns}
        lacking = [key for key in patterns if all(name.endswith(".failed.ipynb") for name in made[key])]
        if len(lacking) < len(patterns):
            there.append(line)
        if lacking:
            missing.append(line if lacking == patterns else f"{line} without {', '.join(lacking)}")
    lines = [f"\nProfile {profile!r} has", *there] if there else []
    if missing:
        remedy = f"`python -m hgrl repro --profile {profile}` makes"
        return "\n".join([*lines, f"\nProfile {profile!r} lacks, and {remedy}", *missing])
    following = "`make lab` opens the notebooks; `dvc metrics show` and `dvc plots show` show the scores."
    return "\n".join([*lines, f"Nothing is missing. Next: {following}"])


def _expected(experiment: Experiment) -> dict[str, tuple[Path, list[str]]]:
    """Kind of result -> its folder, and a pattern for each file or group of files."""
    files, notebooks = experiment.files, sorted((paths.HOME / "notebooks").glob("*.ipynb"))
    expected = {
        "tables": (table_file(files, "table1").parent, [f"{name}.md" for name in TITLES]),
        "claims": (files.claims.parent, [files.claims.with_suffix(".md").name]),
        "figures": (files.figures(committed=True), ["*.png"]),
        "scores": (files.metrics("probe").parent, [f"{stage}.json" for stage in STAGES.values()]),
        "executed notebooks": (files.notebook("x").parent, [f"{path.stem}*.ipynb" for path in notebooks]),
    }
    if experiment.settings.data.scenes is None:
        expected["pictures of images"] = (files.figures(committed=False), ["*.png"])
    return expected
