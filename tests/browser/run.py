"""`make browser-test`: the notebooks and pages, used in Chromium as people use them.

Needs Chromium (Debian: `apt install chromium`; or `playwright install chromium`). Screenshots
lie in artifacts/browser. CI does not run it: the notebooks take ten minutes."""

import argparse
import sys
import tempfile
from pathlib import Path

import pages
from chromium import Chromium

import notebooks
from hgrl.core import paths

CHECKS = {"explorer": pages.explorer, "report": pages.report, "book": pages.book}


def main() -> int:
    names = sorted(path.stem for path in (paths.HOME / "notebooks").glob("*.ipynb"))
    parser = argparse.ArgumentParser(description=__doc__)
    every = [*CHECKS, *names]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(every)}")
    parser.add_argument("--shots", type=Path, default=paths.HOME / "artifacts" / "browser")
    options = parser.parse_args()
    wanted = options.names or every
    if unknown := set(wanted) - set(every):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(every)}")
    problems = []
    with Chromium(options.shots) as browser, tempfile.TemporaryDirectory() as folder:
        for name in (name for name in wanted if name in CHECKS):
            problems += told(name, CHECKS[name](browser, Path(folder)))
        if opened := [name for name in wanted if name not in CHECKS]:
            with notebooks.lab(Path(folder)) as address:
                for name in opened:
                    problems += told(name, notebooks.use(browser, address, name))
    print(f"{len(problems)} problems; screenshots in {options.shots}")
    return 1 if problems else 0


def told(name: str, found: list[str]) -> list[str]:
    problems = [*dict.fromkeys(found)]  # each once
    print(f"{name}: {'as it should be' if not problems else f'{len(problems)} problems'}", flush=True)
    for problem in problems:
        print(f"  {problem}", flush=True)
    return problems


if __name__ == "__main__":
    sys.exit(main())
