"""`python -m hgrl repro`: DVC's pipeline at one profile's size. No file is edited for it."""

import re
import subprocess
import sys

from hgrl.core import paths
from hgrl.core.errors import InputError
from hgrl.core.experiment import load_experiment, load_params
from hgrl.core.files import write_text

QUICK = "quick"  # the profile of `--quick`


def current_profile() -> str:
    """The profile that `dvc repro` makes: params.yaml's."""
    profile = load_params().get("profile")
    if profile is None:
        raise InputError(f"{paths.PARAMS}: no line 'profile: ...' in it; add one")
    return profile


def choose_profile(name: str) -> None:
    """Write `name` into params.yaml, whose comments stay; InputError for an unknown or invalid profile."""
    load_experiment(name)
    line, text = re.compile(r"^profile:\s*[^\s#]+", re.MULTILINE), paths.PARAMS.read_text()
    if not line.search(text):
        raise InputError(f"{paths.PARAMS}: no line 'profile: ...' in it; add one")
    write_text(paths.PARAMS, line.sub(f"profile: {name}", text, count=1))


def reproduce(profile: str, extras: bool = False) -> None:
    """`dvc repro` for a profile, after that of the extras where they are asked for.

    Raises InputError when a stage fails."""
    load_experiment(profile)  # a wrong profile is refused before DVC starts
    command = [sys.executable, "-m", __name__, profile, *([paths.EXTRAS] if extras else [])]
    status = subprocess.run(command, cwd=paths.HOME, check=False).returncode
    if status:
        remedy = "its last lines above say where; the same command goes on from there"
        raise InputError(f"dvc repro ended with status {status}: {remedy}")


def _run_dvc(profile: str, extras: bool) -> int:
    """`dvc repro`. DVC reads `${profile}` from params.yaml alone: here it is set after that is read.

    The extras come first, with all that they need of the others: tables and claims are made of both."""
    from dvc.cli import main
    from dvc.parsing.context import Context

    load = Context.load_from_vars

    def load_with_profile(context: Context, *arguments: object, **options: object) -> None:
        load(context, *arguments, **options)
        if "profile" in context:
            context["profile"] = profile

    Context.load_from_vars = load_with_profile
    return (extras and main(["repro", f"{paths.EXTRAS}/dvc.yaml"])) or main(["repro"])


if __name__ == "__main__":
    sys.exit(_run_dvc(sys.argv[1], paths.EXTRAS in sys.argv[2:]))
