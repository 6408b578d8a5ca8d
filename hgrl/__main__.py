"""`python -m hgrl`: the pipeline's stages and the grouping tools, from the command line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hgrl.core import paths
from hgrl.core.errors import InputError, ToldByFirst
from hgrl.data.fetching.archives import DATA_SETS


def main(arguments: list[str] | None = None) -> int:
    """Run one command; bad input gives one line on stderr and exit status 1."""
    options = parser().parse_args(arguments)
    try:
        return options.command(options) or 0
    except ToldByFirst:
        return 1
    except InputError as error:
        print(f"hgrl: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("hgrl: interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m hgrl", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for add in (_add_data_sets, _add_stages, _add_trials, _add_results, _add_grouping, _add_edge_detectors):
        add(commands)
    return top


def _add_data_sets(commands: argparse._SubParsersAction) -> None:
    command = _command(
        commands,
        "fetch",
        fetch,
        "download and unpack the real data sets; the same command goes on after an interruption",
    )
    command.add_argument(
        "names", nargs="+", metavar="NAME", choices=list(DATA_SETS), help=", ".join(DATA_SETS)
    )
    command.add_argument("--data", type=Path, help="data root; default: HGRL_DATA, or data/")
    command.add_argument(
        "--keep-archives", action="store_true", help="keep what was downloaded after it is unpacked"
    )
    command = _command(
        commands,
        "check-data",
        check_data,
        "what is under the data root; exit status 1 when the profile lacks some",
    )
    command.add_argument("--data", type=Path, help="data root; default: HGRL_DATA, or data/")
    command.add_argument("--profile", help="whose data must be there; default: params.yaml's")
    command.add_argument(
        "--allow-partial",
        action="store_true",
        help="a set that opens will do, though it is smaller than published",
    )


def _add_stages(commands: argparse._SubParsersAction) -> None:
    command = _command(
        commands, "data", prepare_data, "draw the embedded scenes, or look through the real data sets"
    )
    command.add_argument("profile")
    command = _command(
        commands, "notebook", notebook, "execute a numbered notebook headlessly with papermill"
    )
    command.add_argument("name", help="e.g. 03_pretraining")
    command.add_argument("profile")
    command.add_argument("--run", help="a run of params.yaml, where the notebook takes one")
    command.add_argument("--runs", help="comma-separated runs, or all, where the notebook takes several")
    command = _command(
        commands,
        "trees",
        trees,
        "region trees of a profile's pretraining images, by one of its named groupings",
    )
    command.add_argument("profile")
    command.add_argument(
        "--grouping", help="a name in the profile's `groupings`, e.g. hed; default: its `grouping`"
    )
    command = _command(
        commands, "train", train, "pretrain a run; under torchrun on several cards or machines"
    )
    command.add_argument("profile")
    which = command.add_mutually_exclusive_group(required=True)
    which.add_argument("run", nargs="?", help="a run of params.yaml")
    which.add_argument(
        "--run",
        dest="run_option",
        metavar="RUN",
        help="the same, but torchrun takes this option for one of its own",
    )
    command.add_argument("--seed", type=int, help="one of the profile's seeds; default: all of them")


def _add_trials(commands: argparse._SubParsersAction) -> None:
    command = _command(
        commands, "sweep", sweep, "the grid over cns and sigma_p that params.yaml lists, or one cell of it"
    )
    command.add_argument("profile")
    command.add_argument("--cns", help="of one cell, e.g. 5 or 5,20; goes with --sigma-p")
    command.add_argument("--sigma-p", type=float, help="of one cell; goes with --cns")
    command = _command(
        commands, "tune", tune, "every method's trials on the tune split; about an hour in mini on 2 cores"
    )
    command.add_argument("profile")
    command.add_argument(
        "--methods", help="comma-separated; default: all that params.yaml lists under 'tuning'"
    )
    command = _command(
        commands, "best", best, "the recipe of `ours-best`, one change at a time, on the tune split"
    )
    command.add_argument("profile")
    command.add_argument(
        "--trials", help="comma-separated; default: all that params.yaml lists under 'best_ablations'"
    )


def _add_results(commands: argparse._SubParsersAction) -> None:
    command = _command(commands, "tables", tables, "write the paper's tables from the scores at hand")
    command.add_argument("profile")
    command = _command(
        commands, "convergence", convergence, "probe the snapshots of the runs listed under `convergence`"
    )
    command.add_argument("profile")
    command = _command(
        commands, "claims", claims, "a verdict on every claim of the paper, from the scores at hand"
    )
    command.add_argument("profile")
    _command(commands, "report", report, "where the results lie")
    _command(commands, "readme", readme, "write the committed results into the README")
    command = _command(
        commands, "repro", repro, "every table and figure: `dvc repro`, at the size of one profile"
    )
    size = command.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="13 minutes on 2 cores, into results/quick")
    size.add_argument("--profile", help="default: params.yaml's")
    command = _command(commands, "profile", switch_profile, "choose the profile that `dvc repro` makes")
    command.add_argument("name")


def _add_grouping(commands: argparse._SubParsersAction) -> None:
    command = _command(commands, "group", group, "region trees of any photographs")
    command.add_argument("images", nargs="+", type=Path, help="image files, or folders of them")
    command.add_argument("--out", required=True, type=Path)
    command.add_argument(
        "--preset",
        default="fast",
        help="fast (half a second a photograph) or best (two seconds); default: fast",
    )
    place = command.add_mutually_exclusive_group()
    place.add_argument("--workers", type=int, default=1, help="processes on this machine; default: 1")
    place.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="a Dask scheduler, as tcp://host:8786, whose workers share this file system",
    )
    command.add_argument(
        "--edges", action="store_true", help="write edge maps too, as NAME.edges.png (16-bit grey)"
    )
    command.add_argument(
        "--hed",
        type=Path,
        metavar="WEIGHTS",
        help="detect edges by this file of train-hed instead of the forest",
    )


def _add_edge_detectors(commands: argparse._SubParsersAction) -> None:
    command = _command(commands, "train-forest", train_forest, "train the structured forest on BSDS500")
    command.add_argument("--data", type=Path, help="folder of BSDS500; default: BSDS500 under HGRL_DATA")
    command.add_argument("--out", type=Path, default=Path("bsds500.npz"), help="default: bsds500.npz")
    command.add_argument(
        "--splits",
        default="train,val",
        help="comma-separated; train alone for a forest that is scored on val",
    )
    command.add_argument("--trees", type=int, default=8)
    command.add_argument("--patches", type=int, default=1_000_000, help="patches a tree")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--workers", type=int, default=1)
    command = _command(
        commands,
        "bsds-bench",
        bsds_bench,
        "the BSDS500 benchmark of edge maps, contour maps (ucm2) or region trees",
    )
    command.add_argument(
        "results",
        type=Path,
        help="folder of one file an image: .png (soft edges after NMS), .mat (ucm2) or .npz (tree)",
    )
    command.add_argument("--data", type=Path, help="folder of BSDS500; default: BSDS500 under HGRL_DATA")
    command.add_argument("--split", default="test", choices=("train", "val", "test"))
    command.add_argument(
        "--kind",
        default="auto",
        choices=("auto", "edges", "ucm", "trees"),
        help="default: by the files' endings",
    )
    command.add_argument("--thresholds", type=int, default=99)
    command.add_argument("--workers", type=int, default=2)
    command.add_argument(
        "--out",
        type=Path,
        help="default: RESULTS-bsds.json beside RESULTS; the curve goes to the same name with .png",
    )
    command.add_argument("--limit", type=int, help="the first N images only")
    command.add_argument("--every", type=int, default=1, help="every K-th image only")
    command = _command(
        commands,
        "train-hed",
        train_hed,
        "train the edge network (HED): a profile's own, or one to a file of yours",
    )
    command.add_argument(
        "profile", nargs="?", help="whose `hed` settings to use; without --out, the pipeline's stage"
    )
    command.add_argument("--out", type=Path, help="write the weights here; all that follows goes with it")
    command.add_argument("--data", type=Path, help="folder of BSDS500; default: BSDS500 under HGRL_DATA")
    command.add_argument("--splits", nargs="+", default=["train", "val"], help="default: train val")
    command.add_argument(
        "--imagenet", metavar="WEIGHTS", help="torchvision's vgg16 or vgg16_bn file; default: from scratch"
    )
    command.add_argument("--device", help="default: auto")
    for name in HED_FLAGS:
        kind = {"lr": float, "precision": str}.get(name, int)
        command.add_argument(
            f"--{name.replace('_', '-')}", type=kind, help=f"setting `hed.{name}`; see hgrl/core/settings.py"
        )


# settings that `train-hed` takes as flags
HED_FLAGS = ("width", "iterations", "batch", "crop_size", "lr", "precision", "seed")


def _command(
    commands: argparse._SubParsersAction, name: str, function: object, text: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text)
    command.set_defaults(command=function)
    return command


def fetch(options: argparse.Namespace) -> int:
    from hgrl.data.fetching.fetch import fetch as fetch_sets

    return 0 if fetch_sets(options.names, _data_root(options), options.keep_archives) else 1


def check_data(options: argparse.Namespace) -> int:
    from hgrl.core.settings import load_settings, load_yaml
    from hgrl.data.fetching.survey import survey, table

    profile = options.profile or load_yaml(paths.PARAMS).get("profile")
    settings, root = load_settings(profile), _data_root(options)
    rows = survey(root, settings)
    print(f"data root: {root}\n{table(rows, profile)}")
    lacking = [row for row in rows if row.needed and row.status not in ("complete", "present")]
    lacking = [row for row in lacking if row.found is None or not options.allow_partial]
    if settings.data.scenes is not None:
        print(f"profile {profile} draws its own data: nothing has to be fetched")
    else:
        print(
            f"profile {profile}: {f'{len(lacking)} of the needed splits are not complete' if lacking else 'all it needs is there'}"
        )
    return 1 if lacking else 0


def _data_root(options: argparse.Namespace) -> Path:
    return options.data or paths.data_root("", embedded=False)


def prepare_data(options: argparse.Namespace) -> None:
    from hgrl.pretraining import stage as stages

    manifest = stages.prepare_data(options.profile)
    for name, found in manifest["sets"].items():
        print(f"{name}: {found['files']} files, {found['bytes'] / 1e6:.1f} MB")


def notebook(options: argparse.Namespace) -> None:
    from hgrl.core.notebook import run_notebook

    given = {"profile": options.profile, "run": options.run, "runs": options.runs}
    parameters = {name: value for name, value in given.items() if value}
    print(f"executed notebook: {run_notebook(options.name, parameters)}")


def trees(options: argparse.Namespace) -> None:
    from hgrl.pretraining import stage as stages

    summary = stages.group(options.profile, options.grouping)
    print(
        f"{summary['images']} trees, {len(summary['failures'])} failures in {paths.trees(options.profile, options.grouping)}"
    )
    for name, problem in summary["failures"].items():
        print(f"{name}: {problem}")


def train(options: argparse.Namespace) -> None:
    """Exit status 0 after a SIGTERM too: the scheduler's restart of the same command goes on. No stage of
    `dvc.yaml` calls this.
    """
    from hgrl.core.interruption import Stopped
    from hgrl.pretraining import stage as stages
    from hgrl.pretraining.ranks import is_first

    run = options.run or options.run_option
    try:
        for saved in stages.pretrain(options.profile, run, options.seed):
            seed, loss = saved.identity["seed"], saved.losses[-50:].mean()
            print(
                f"{run}, seed {seed}: {saved.step} steps, loss {loss:.4f}, {paths.checkpoints(options.profile, run)}/seed{seed}.pt"
            )
    except Stopped as stopped:
        if is_first():
            print(f"hgrl: {stopped}", file=sys.stderr)


def sweep(options: argparse.Namespace) -> None:
    if (options.cns is None) != (options.sigma_p is None):
        raise InputError(
            "sweep: one cell takes both --cns and --sigma-p; with neither, all that params.yaml lists are made"
        )
    from hgrl.evaluation import trials as ablation

    if options.cns is None:
        results = list(ablation.sweep(options.profile).values())
    else:
        results = [ablation.sweep_cell(options.profile, options.cns, options.sigma_p)]
    for result in results:
        cns, sigma_p = (result["overrides"][f"sampling.{name}"] for name in ("cns", "sigma_p"))
        print(
            f"cns {cns}, sigma_p {sigma_p}: mIoU {100 * result['miou_mean']:.2f} +- {100 * result['miou_std']:.2f} on the tune split"
        )


def tune(options: argparse.Namespace) -> None:
    from hgrl.evaluation import trials as ablation

    for name, result in ablation.tune(
        options.profile, options.methods.split(",") if options.methods else None
    ).items():
        print(f"{name}: {100 * result['miou_mean']:.2f}")


def best(options: argparse.Namespace) -> None:
    from hgrl.evaluation import trials as ablation

    for name, result in ablation.ablate_best(
        options.profile, options.trials.split(",") if options.trials else None
    ).items():
        print(f"{name}: {100 * result['miou_mean']:.2f}")


def tables(options: argparse.Namespace) -> None:
    from hgrl.reporting.tables import write_tables

    for path in write_tables(options.profile):
        print(path.relative_to(paths.HOME))


def convergence(options: argparse.Namespace) -> None:
    from hgrl.evaluation.convergence import trace

    for run, curve in trace(options.profile).items():
        points = zip(curve["epochs"], curve["miou_mean"], strict=True)
        print(
            f"{run}: mIoU {', '.join(f'{100 * miou:.2f} after {epochs:g}' for epochs, miou in points)} epochs"
        )


def claims(options: argparse.Namespace) -> None:
    from hgrl.reporting.claims import write_claims

    for entry in write_claims(options.profile):
        print(f"{entry['id']:>4} {entry['claim']}: {entry['verdict']} ({entry['why']})")
    print(paths.claims(options.profile).with_suffix(".md").relative_to(paths.HOME))


def report(options: argparse.Namespace) -> None:
    from hgrl.core.pipeline import current_profile
    from hgrl.reporting.summary import report as text

    print(text(current_profile()))


def readme(options: argparse.Namespace) -> None:
    from hgrl.reporting.pages import update_readme

    update_readme()


def switch_profile(options: argparse.Namespace) -> None:
    from hgrl.core.pipeline import choose_profile

    choose_profile(options.name)
    print(f"params.yaml: profile is {options.name}; `dvc repro` makes it")


def repro(options: argparse.Namespace) -> None:
    from hgrl.core.pipeline import QUICK, current_profile, reproduce
    from hgrl.reporting.summary import report as lines

    profile = QUICK if options.quick else options.profile or current_profile()
    reproduce(profile)
    print(lines(profile))


def group(options: argparse.Namespace) -> int:
    from hgrl.core.settings import grouping_preset
    from hgrl.data.sets.folder import open_folder
    from hgrl.grouping.edges import EdgeNetwork
    from hgrl.grouping.group import group_images
    from hgrl.grouping.outputs import EDGES, is_edge_map

    if options.workers < 1:
        raise InputError(f"group: --workers must be at least 1 (got {options.workers})")
    settings, network = grouping_preset(options.preset), None
    samples = open_folder(options.images)
    photographs = [
        k for k, path in enumerate(samples.images) if not path.name.endswith(EDGES) or not is_edge_map(path)
    ]
    if not photographs:
        raise InputError("group: all these images are edge maps that `group` wrote; give photographs")
    samples = samples.subset(photographs)
    if options.hed:
        from hgrl.grouping.hed.network import load_hed

        load_hed(options.hed)  # a missing or foreign file is told once, not for every image
        settings, network = grouping_preset(options.preset, edges="hed"), EdgeNetwork(options.hed.absolute())
    places = {"scheduler": options.scheduler, "network": network, "edges": options.edges}
    failures = group_images(samples, options.out, settings, options.workers, **places)
    print(f"{len(samples) - len(failures)} of {len(samples)} images have a region tree in {options.out}")
    for name, message in failures.items():
        print(f"hgrl: {name}: {message}", file=sys.stderr)
    return 1 if failures else 0


def train_forest(options: argparse.Namespace) -> None:
    from hgrl.grouping.forest.model import train_forest as train

    root = options.data or paths.data_root("", embedded=False) / "BSDS500"
    splits = tuple(options.splits.split(","))
    train(
        root,
        options.out,
        trees=options.trees,
        patches=options.patches,
        seed=options.seed,
        workers=options.workers,
        splits=splits,
    )


def bsds_bench(options: argparse.Namespace) -> int:
    from hgrl.grouping.bsds_benchmark import report, run_benchmark

    root = options.data or paths.data_root("", embedded=False) / "BSDS500"
    out = options.out or options.results.resolve().with_name(f"{options.results.resolve().name}-bsds.json")
    subset = {"limit": options.limit, "every": options.every}
    result = run_benchmark(
        options.results, root, out, options.split, options.kind, options.thresholds, options.workers, **subset
    )
    print(report(result))
    for name, message in result["missing"].items():
        print(f"hgrl: {name}: {message}", file=sys.stderr)
    return 1 if result["missing"] else 0


def train_hed(options: argparse.Namespace) -> None:
    if options.out is None:
        _train_the_profiles_hed(options)
        return
    from hgrl.core.settings import HedSettings, load_settings, with_changes
    from hgrl.data.sets.bsds import open_bsds
    from hgrl.grouping.hed.training import train_hed as train
    from hgrl.pretraining.loop import pick_device

    root = (options.data or paths.data_root("", embedded=False) / "BSDS500").resolve()
    base = load_settings(options.profile).hed if options.profile else HedSettings()
    given = {name: getattr(options, name) for name in HED_FLAGS if getattr(options, name) is not None}
    settings = with_changes(
        base, given | ({"imagenet_weights": options.imagenet} if options.imagenet else {}), "train-hed"
    )
    samples = [open_bsds(root.parent, root.name, split) for split in options.splits]
    saved = train(samples, settings, options.out, pick_device(options.device or "auto"))
    trunk, images, loss = saved.identity["trunk"], saved.identity["images"], saved.losses[-50:].mean()
    print(f"{options.out}: trunk {trunk}, {images} images, {saved.step} steps, loss {loss:.4f}")
    print(f"next: python -m hgrl group PHOTOS --out TREES --hed {options.out}")


def _train_the_profiles_hed(options: argparse.Namespace) -> None:
    from hgrl.pretraining import stage as stages

    flags = [
        name for name in ("data", "imagenet", "device", *HED_FLAGS) if getattr(options, name) is not None
    ]
    if not options.profile or flags:
        what = (
            f"--{flags[0].replace('_', '-')} goes with --out FILE"
            if flags
            else "give a profile, or --out FILE"
        )
        raise InputError(
            f"train-hed: {what}; a profile's own network takes its numbers from the profile's `hed` section"
        )
    summary = stages.train_edge_network(options.profile)
    print(
        f"edge network: trunk {summary['trunk']}, {summary['images']} images, {summary['iterations']} steps, loss {summary['loss']:.4f}"
    )
    print(f"next: dvc repro grouping-hed@{options.profile}")


if __name__ == "__main__":
    sys.exit(main())
