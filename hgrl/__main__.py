"""`python -m hgrl`: the pipeline's stages and the grouping tools, from the command line."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from hgrl import paths
from hgrl.errors import InputError


def main(arguments: list[str] | None = None) -> int:
    """Run one command; bad input gives one line on stderr and exit status 1."""
    options = parser().parse_args(arguments)
    try:
        return options.command(options) or 0
    except InputError as error:
        print(f"hgrl: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("hgrl: interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m hgrl", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    command = _command(commands, "data", prepare_data, "draw the embedded scenes, or look through the real data sets")
    command.add_argument("profile")
    command = _command(commands, "notebook", notebook, "execute a numbered notebook headlessly with papermill")
    command.add_argument("name", help="e.g. 03_pretraining")
    command.add_argument("profile")
    command.add_argument("--run", help="a run of params.yaml, where the notebook takes one")
    command.add_argument("--runs", help="comma-separated runs, or all, where the notebook takes several")
    command = _command(commands, "sweep", sweep, "one cell of the grid over cns and sigma_p")
    command.add_argument("profile")
    command.add_argument("--cns", required=True)
    command.add_argument("--sigma-p", required=True, type=float)
    command = _command(commands, "tables", tables, "write the paper's tables from the scores at hand")
    command.add_argument("profile")
    _command(commands, "report", report, "where the results lie")
    _command(commands, "readme", readme, "write the committed results into the README")
    command = _command(commands, "profile", switch_profile, "choose the profile that `dvc repro` makes")
    command.add_argument("name")

    command = _command(commands, "group", group, "region trees of any photographs")
    command.add_argument("images", nargs="+", type=Path, help="image files, or folders of them")
    command.add_argument("--out", required=True, type=Path)
    command.add_argument("--preset", default="fast", help="fast (half a second a photograph) or best (two seconds); default: fast")
    command.add_argument("--workers", type=int, default=1)
    command = _command(commands, "train-forest", train_forest, "train the structured forest on BSDS500")
    command.add_argument("--data", type=Path, help="folder of BSDS500; default: BSDS500 under HGRL_DATA")
    command.add_argument("--out", type=Path, default=Path("bsds500.npz"), help="default: bsds500.npz")
    command.add_argument("--splits", default="train,val", help="comma-separated; train alone for a forest that is scored on val")
    command.add_argument("--trees", type=int, default=8)
    command.add_argument("--patches", type=int, default=1_000_000, help="patches a tree")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--workers", type=int, default=1)
    command = _command(commands, "bsds-bench", bsds_bench, "the BSDS500 benchmark of edge maps, contour maps (ucm2) or region trees")
    command.add_argument("results", type=Path, help="folder of one file an image: .png (soft edges after NMS), .mat (ucm2) or .npz (tree)")
    command.add_argument("--data", type=Path, help="folder of BSDS500; default: BSDS500 under HGRL_DATA")
    command.add_argument("--split", default="test", choices=("train", "val", "test"))
    command.add_argument("--kind", default="auto", choices=("auto", "edges", "ucm", "trees"), help="default: by the files' endings")
    command.add_argument("--thresholds", type=int, default=99)
    command.add_argument("--workers", type=int, default=2)
    command.add_argument("--out", type=Path, help="default: RESULTS-bsds.json beside RESULTS; the curve goes to the same name with .png")
    command.add_argument("--limit", type=int, help="the first N images only")
    command.add_argument("--every", type=int, default=1, help="every K-th image only")
    return top


def _command(commands: argparse._SubParsersAction, name: str, function: object, text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text)
    command.set_defaults(command=function)
    return command


def prepare_data(options: argparse.Namespace) -> None:
    from hgrl import stages

    manifest = stages.prepare_data(options.profile)
    for name, found in manifest["sets"].items():
        print(f"{name}: {found['files']} files, {found['bytes'] / 1e6:.1f} MB")


def notebook(options: argparse.Namespace) -> None:
    from hgrl.notebook import run_notebook

    given = {"profile": options.profile, "run": options.run, "runs": options.runs}
    parameters = {name: value for name, value in given.items() if value}
    print(f"executed notebook: {run_notebook(options.name, parameters)}")


def sweep(options: argparse.Namespace) -> None:
    from hgrl.ablation import sweep as sweep_cell

    result = sweep_cell(options.profile, options.cns, options.sigma_p)
    print(f"cns {options.cns}, sigma_p {options.sigma_p}: mIoU {100 * result['miou_mean']:.2f} +- {100 * result['miou_std']:.2f} on the tune split")


def tables(options: argparse.Namespace) -> None:
    from hgrl.tables import write_tables

    for path in write_tables(options.profile):
        print(path.relative_to(paths.HOME))


def report(options: argparse.Namespace) -> None:
    from hgrl.report import report as text

    print(text())


def readme(options: argparse.Namespace) -> None:
    from hgrl.readme import update_readme

    update_readme()


def switch_profile(options: argparse.Namespace) -> None:
    from hgrl.config import load_settings
    from hgrl.store import write_text

    load_settings(options.name)
    text, found = re.subn(r"^profile:\s*[^\s#]+", f"profile: {options.name}", paths.PARAMS.read_text(), count=1, flags=re.MULTILINE)
    if not found:
        raise InputError(f"{paths.PARAMS}: no line 'profile: ...' in it; add one")
    write_text(paths.PARAMS, text)
    print(f"params.yaml: profile is {options.name}; `dvc repro` makes it")


def group(options: argparse.Namespace) -> int:
    from hgrl.config import grouping_preset
    from hgrl.data.folder import open_folder
    from hgrl.grouping.group import group_images

    settings = grouping_preset(options.preset)
    samples = open_folder(options.images, leave_out=options.out)
    failures = group_images(samples, options.out, options.out, settings, options.workers)
    print(f"{len(samples) - len(failures)} of {len(samples)} images have a region tree in {options.out}")
    for name, message in failures.items():
        print(f"hgrl: {name}: {message}", file=sys.stderr)
    return 1 if failures else 0


def train_forest(options: argparse.Namespace) -> None:
    from hgrl.grouping.forest import train_forest as train

    root = options.data or paths.data_root("", embedded=False) / "BSDS500"
    splits = tuple(options.splits.split(","))
    train(root, options.out, trees=options.trees, patches=options.patches, seed=options.seed, workers=options.workers, splits=splits)


def bsds_bench(options: argparse.Namespace) -> int:
    from hgrl.bsds_bench import report, run_benchmark

    root = options.data or paths.data_root("", embedded=False) / "BSDS500"
    out = options.out or options.results.resolve().with_name(f"{options.results.resolve().name}-bsds.json")
    subset = {"limit": options.limit, "every": options.every}
    result = run_benchmark(options.results, root, out, options.split, options.kind, options.thresholds, options.workers, **subset)
    print(report(result))
    for name, message in result["missing"].items():
        print(f"hgrl: {name}: {message}", file=sys.stderr)
    return 1 if result["missing"] else 0


if __name__ == "__main__":
    sys.exit(main())
