"""`python -m hgrl repro`: the pipeline at one profile's size, which is not kept as the current one."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from hgrl.core import paths
from hgrl.core.errors import InputError
from hgrl.core.files import write_text
from hgrl.core.settings import load_settings, load_yaml

QUICK = "quick"  # the profile of `--quick`


def current_profile() -> str:
    """The profile that `dvc repro` makes."""
    profile = load_yaml(paths.PARAMS).get("profile")
    if profile is None:
        raise InputError(f"{paths.PARAMS}: no line 'profile: ...' in it; add one")
    return profile


def choose_profile(name: str) -> None:
    """Writes `name` into params.yaml, whose comments stay; InputError for an unknown or invalid profile."""
    load_settings(name)
    text, found = re.subn(
        r"^profile:\s*[^\s#]+", f"profile: {name}", paths.PARAMS.read_text(), count=1, flags=re.MULTILINE
    )
    if not found:
        raise InputError(f"{paths.PARAMS}: no line 'profile: ...' in it; add one")
    write_text(paths.PARAMS, text)


def reproduce(profile: str | None = None) -> None:
    """`dvc repro` with a profile, then the former one again; None: the current one. InputError when a stage
    failed.
    """
    with _chosen(profile or current_profile()):
        status = subprocess.run(
            [sys.executable, "-m", "dvc", "repro"], cwd=paths.HOME, check=False
        ).returncode
    if status:
        raise InputError(
            f"dvc repro ended with status {status}: its last lines above say where; the same command goes on from there"
        )


@contextmanager
def _chosen(profile: str) -> Iterator[None]:
    former = current_profile()
    choose_profile(profile)
    try:
        yield
    finally:
        choose_profile(former)
