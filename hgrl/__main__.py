"""`python -m hgrl`: the pipeline's stages and the grouping tools, from the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hgrl.core import paths
from hgrl.core.errors import InputError, ToldByFirst
from hgrl.core.experiment import Experiment, load_experiment
from hgrl.data.fetching.archives import DATA_SETS

Options = argparse.Namespace
HED_FLAGS = ("width", "iterations", "batch", "crop_size", "lr", "precision", "seed")  # settings of `hed`


def main(arguments: list[str] | None = None) -> int:
    """Run one command; bad input gives one line on stderr and exit status 1."""
    options = parser().parse_args(arguments)
    try:
        if isinstance(getattr(options, "experiment", None), str):
            options.experiment = load_experiment(options.experiment)
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

    def add(name: str, function: Callable[[Options], int | None], text: str, *arguments: _Argument) -> None:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(command=function)
        for names, options in arguments:
            command.add_argument(*names, **options)

    for add_group in (_add_data_sets, _add_stages, _add_trials, _add_results, _add_grouping, _add_detectors):
        add_group(add)
    return top


_Argument = tuple[tuple[str, ...], dict[str, Any]]


def _argument(*names: str, help: str = "", **options: Any) -> _Argument:
    return names, {"help": help, **options}


PROFILE = _argument("experiment", metavar="profile", help="a file of profiles/, without .yaml")
DATA = _argument("--data", type=Path, help="data root; default: HGRL_DATA, or data/")
BSDS500 = _argument("--data", type=Path, help="folder of BSDS500; default: BSDS500 under HGRL_DATA")


def _add_data_sets(add: Callable[..., None]) -> None:
    names = _argument("names", nargs="+", metavar="NAME", choices=list(DATA_SETS), help=", ".join(DATA_SETS))
    keep = _argument("--keep-archives", action="store_true", help="keep the archives after unpacking them")
    text = "download and unpack real data sets; after an interruption the same command goes on"
    add("fetch", fetch, text, names, DATA, keep)
    profile = _argument("--profile", help="whose data must be there; default: params.yaml's")
    partial = _argument("--allow-partial", action="store_true", help="a set smaller than published will do")
    text = "what is under the data root; exit status 1 if the profile lacks some"
    add("check-data", check_data, text, DATA, profile, partial)


def _add_stages(add: Callable[..., None]) -> None:
    add("data", prepare_data, "draw the embedded scenes, or look through the real data sets", PROFILE)
    run = _argument("--run", help="a run of params.yaml, if the notebook takes one")
    runs = _argument("--runs", help="comma-separated runs, or all, if the notebook takes several")
    set_ = _argument(
        "-p", dest="set", action="append", default=[], metavar="NAME=VALUE", help="a parameter, e.g. cns=5"
    )
    name = _argument("name", help="e.g. 03_pretraining")
    add(
        "notebook",
        notebook,
        "execute a numbered notebook headlessly with papermill",
        name,
        PROFILE,
        run,
        runs,
        set_,
    )
    grouping = _argument(
        "--grouping", help="a name in the profile's `groupings`, e.g. hed; default: `grouping`"
    )
    add("trees", trees, "region trees of a profile's pretraining images", PROFILE, grouping)
    seed = _argument("--seed", type=int, help="one of the profile's seeds; default: all of them")
    text = "pretrain a run; under torchrun on several cards or machines"
    add("train", train, text, PROFILE, _argument("run", help="a run of params.yaml"), seed)


def _add_trials(add: Callable[..., None]) -> None:
    cns = _argument("--cns", help="of one cell, e.g. 5 or 5,20; goes with --sigma-p")
    sigma_p = _argument("--sigma-p", type=float, help="of one cell; goes with --cns")
    add("sweep", sweep, "params.yaml's grid over cns and sigma_p, or one cell of it", PROFILE, cns, sigma_p)
    methods = _argument(
        "--methods", help="comma-separated; default: all that params.yaml lists under 'tuning'"
    )
    add("tune", tune, "every method's trials on the tune split; about an hour in mini", PROFILE, methods)


def _add_results(add: Callable[..., None]) -> None:
    add("tables", tables, "write the paper's tables from the scores at hand", PROFILE)
    add("convergence", convergence, "probe the snapshots of the runs listed under `convergence`", PROFILE)
    add("claims", claims, "a verdict on every claim of the paper, from the scores at hand", PROFILE)
    add("report", report, "which results are there, and what makes the missing ones")
    add("readme", readme, "write the committed results into README.md and results/README.md")
    quick = _argument("--quick", action="store_true", help="13 minutes on 2 cores, into results/quick")
    profile = _argument("--profile", help="default: params.yaml's")
    add("repro", repro, "every table and figure: `dvc repro`, at the size of one profile", quick, profile)
    add("profile", switch_profile, "choose the profile that `dvc repro` makes", _argument("name"))


def _add_grouping(add: Callable[..., None]) -> None:
    images = _argument("images", nargs="+", type=Path, help="image files, or folders of them")
    preset = _argument(
        "--preset", default="fast", help="fast (half a second per photograph) or best (two seconds)"
    )
    workers = _argument("--workers", type=int, help="processes on this machine; default: 1")
    text = "a Dask scheduler, as tcp://host:8786, whose workers share this file system"
    scheduler = _argument("--scheduler", metavar="ADDRESS", help=text)
    hed = _argument(
        "--hed",
        type=Path,
        metavar="WEIGHTS",
        help="detect edges by this file of train-hed instead of the forest",
    )
    out = _argument("--out", required=True, type=Path)
    edges = _argument("--edges", action="store_true", help="edge maps too, as NAME.edges.png (16-bit grey)")
    places = (workers, scheduler)
    add("group", group, "region trees of any photographs", images, out, preset, *places, hed, edges)


def _add_detectors(add: Callable[..., None]) -> None:
    out = _argument("--out", type=Path, default=Path("bsds500.npz"), help="default: bsds500.npz")
    splits = _argument("--splits", default="train,val", help="comma-separated; train alone to score on val")
    numbers = [
        _argument("--trees", type=int, default=8),
        _argument("--patches", type=int, default=1_000_000, help="patches per tree"),
        _argument("--seed", type=int, default=0),
        _argument("--workers", type=int, default=1),
    ]
    add(
        "train-forest", train_forest, "train the structured forest on BSDS500", BSDS500, out, splits, *numbers
    )
    text = "folder of one file per image: .png (soft edges after NMS), .mat (ucm2) or .npz (tree)"
    benchmark = [
        _argument("results", type=Path, help=text),
        BSDS500,
        _argument("--split", default="test", choices=("train", "val", "test")),
        _argument(
            "--kind",
            default="auto",
            choices=("auto", "edges", "ucm", "trees"),
            help="default: by the files' endings",
        ),
        _argument("--thresholds", type=int, default=99),
        _argument("--workers", type=int, default=2),
        _argument("--out", type=Path, help="default: RESULTS-bsds.json beside RESULTS; the curve as .png"),
        _argument("--limit", type=int, help="only the first N images"),
        _argument("--every", type=int, default=1, help="only every K-th image"),
    ]
    add(
        "bsds-bench",
        bsds_bench,
        "score edge maps, contour maps (ucm2) or trees by the BSDS500 benchmark",
        *benchmark,
    )
    text = "whose `hed` settings to use; without --out, the pipeline's stage"
    own = [
        _argument("experiment", nargs="?", metavar="profile", help=text),
        _argument("--out", type=Path, help="write the weights here; all that follows goes with it"),
        BSDS500,
        _argument("--splits", nargs="+", default=["train", "val"], help="default: train val"),
        _argument(
            "--imagenet", metavar="WEIGHTS", help="torchvision's vgg16 or vgg16_bn; default: from scratch"
        ),
        _argument("--device", help="default: auto"),
    ]
    for name in HED_FLAGS:
        kind = {"lr": float, "precision": str}.get(name, int)
        own.append(
            _argument(
                f"--{name.replace('_', '-')}",
                type=kind,
                help=f"setting `hed.{name}`; see hgrl/core/settings.py",
            )
        )
    add(
        "train-hed",
        train_hed,
        "train the edge network (HED): a profile's own, or one to a file of yours",
        *own,
    )


def fetch(options: Options) -> int:
    from hgrl.data.fetching.fetch import fetch_data_sets

    root = options.data or paths.data_root()
    return 0 if fetch_data_sets(options.names, root, options.keep_archives) else 1


def check_data(options: Options) -> int:
    from hgrl.core.pipeline import current_profile
    from hgrl.data.fetching.survey import format_survey, survey

    experiment, root = (
        load_experiment(options.profile or current_profile()),
        options.data or paths.data_root(),
    )
    rows, profile = survey(root, experiment.settings), experiment.profile
    print(f"data root: {root}\n{format_survey(rows, profile)}")
    lacking = [row for row in rows if row.needed and row.status not in ("complete", "present")]
    lacking = [row for row in lacking if row.found is None or not options.allow_partial]
    if experiment.settings.data.scenes is not None:
        print(f"profile {profile} draws its own data: nothing has to be fetched")
    else:
        count = f"{len(lacking)} of the needed splits are not complete"
        print(f"profile {profile}: {count if lacking else 'all it needs is there'}")
    return 1 if lacking else 0


def prepare_data(options: Options) -> None:
    from hgrl.data.stage import prepare_data

    for name, found in prepare_data(options.experiment)["sets"].items():
        print(f"{name}: {found['files']} files, {found['bytes'] / 1e6:.1f} MB")


def notebook(options: Options) -> None:
    from hgrl.core.notebook import run_notebook

    parameters = {name: value for name in ("run", "runs") if (value := getattr(options, name))}
    for item in options.set:
        name, equals, value = item.partition("=")
        if not equals:
            raise InputError(f"-p {item}: write NAME=VALUE, as -p cns=5")
        parameters[name] = value
    swept = {f"sampling.{name}": parameters[name] for name in ("cns", "sigma_p") if name in parameters}
    options.experiment.settings_with(swept)  # a bad value is told before a kernel starts
    print(f"executed notebook: {run_notebook(options.name, options.experiment, parameters)}")


def trees(options: Options) -> None:
    from hgrl.grouping.stage import group

    summary = group(options.experiment, options.grouping)
    folder = options.experiment.files.trees(options.grouping)
    print(f"{summary['images']} trees, {len(summary['failures'])} failures in {folder}")
    for name, problem in summary["failures"].items():
        print(f"{name}: {problem}")


def train(options: Options) -> None:
    """Exit status 0 after a SIGTERM too: the scheduler's restart of the same command goes on."""
    from hgrl.core.interruption import Stopped
    from hgrl.pretraining.ranks import is_first
    from hgrl.pretraining.stage import pretrain

    experiment: Experiment = options.experiment
    try:
        for saved in pretrain(experiment, experiment.run(options.run), options.seed):
            seed, loss = saved.identity["seed"], saved.losses[-50:].mean()
            file = experiment.files.checkpoint(options.run, seed)
            print(f"{options.run}, seed {seed}: {saved.step} steps, loss {loss:.4f}, {file}")
    except Stopped as stopped:
        if is_first():
            print(f"hgrl: {stopped}", file=sys.stderr)


def sweep(options: Options) -> None:
    if (options.cns is None) != (options.sigma_p is None):
        raise InputError("sweep: one cell takes both --cns and --sigma-p; without them all are made")
    from hgrl.evaluation import trials

    if options.cns is None:
        results = list(trials.sweep(options.experiment).values())
    else:
        results = [trials.sweep_cell(options.experiment, options.cns, options.sigma_p)]
    for result in results:
        cns, sigma_p = (result["overrides"][f"sampling.{name}"] for name in ("cns", "sigma_p"))
        print(f"cns {cns}, sigma_p {sigma_p}: mIoU {trials.score_text(result)} on the tune split")


def tune(options: Options) -> None:
    from hgrl.evaluation import trials

    methods = options.methods.split(",") if options.methods else None
    for name, result in trials.tune(options.experiment, methods).items():
        print(f"{name}: {100 * result['miou_mean']:.2f}")


def tables(options: Options) -> None:
    from hgrl.reporting.tables import write_tables

    for path in write_tables(options.experiment):
        print(path.relative_to(paths.HOME))


def convergence(options: Options) -> None:
    from hgrl.evaluation.convergence import trace

    for run, curve in trace(options.experiment).items():
        points = zip(curve["epochs"], curve["miou_mean"], strict=True)
        print(
            f"{run}: mIoU {', '.join(f'{100 * miou:.2f} after {epochs:g}' for epochs, miou in points)} epochs"
        )


def claims(options: Options) -> None:
    from hgrl.reporting.claims import write_claims

    for entry in write_claims(options.experiment):
        print(f"{entry['id']:>4} {entry['claim']}: {entry['verdict']} ({entry['why']})")
    print(options.experiment.files.claims.with_suffix(".md").relative_to(paths.HOME))


def report(options: Options) -> None:
    from hgrl.core.pipeline import current_profile
    from hgrl.reporting.summary import summarise_results

    print(summarise_results(load_experiment(current_profile())))


def readme(options: Options) -> None:
    from hgrl.reporting.pages import update_readme

    update_readme()


def switch_profile(options: Options) -> None:
    from hgrl.core.pipeline import choose_profile

    choose_profile(options.name)
    print(f"params.yaml: profile is {options.name}; `dvc repro` makes it")


def repro(options: Options) -> None:
    from hgrl.core.pipeline import QUICK, current_profile, reproduce
    from hgrl.reporting.summary import summarise_results

    if options.quick and options.profile:
        raise InputError("repro: --quick is a profile of its own; give it or --profile, not both")
    profile = QUICK if options.quick else options.profile or current_profile()
    reproduce(profile)
    print(summarise_results(load_experiment(profile)))


def group(options: Options) -> int:
    from hgrl.core.loading import grouping_preset
    from hgrl.data.sets.folder import open_folder
    from hgrl.grouping.edges import EdgeNetwork
    from hgrl.grouping.group import group_images
    from hgrl.grouping.outputs import is_edge_map

    workers = 1 if options.workers is None else options.workers
    if workers < 1:
        raise InputError(f"group: --workers must be at least 1 (got {workers})")
    if options.scheduler is not None and options.workers is not None:
        raise InputError("group: --scheduler has workers of its own; give it or --workers, not both")
    settings, network = grouping_preset(options.preset), None
    samples = open_folder(options.images, results=options.out)
    photographs = [k for k, path in enumerate(samples.images) if not is_edge_map(path)]
    if not photographs:
        raise InputError("group: all these images are edge maps that `group` wrote; give photographs")
    samples = samples.subset(photographs)
    if options.hed:
        from hgrl.grouping.hed.network import load_hed

        load_hed(options.hed)  # reports a missing or foreign file once, not for every image
        settings, network = grouping_preset(options.preset, edges="hed"), EdgeNetwork(options.hed.absolute())
    how = {"scheduler": options.scheduler, "network": network, "edges": options.edges}
    failures = group_images(samples, options.out, settings, workers, **how)
    print(f"{len(samples) - len(failures)} of {len(samples)} images have a region tree in {options.out}")
    for name, message in failures.items():
        print(f"hgrl: {name}: {message}", file=sys.stderr)
    return 1 if failures else 0


def train_forest(options: Options) -> None:
    from hgrl.grouping.forest.model import train_forest as train

    root = options.data or paths.data_root() / "BSDS500"
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


def bsds_bench(options: Options) -> int:
    from hgrl.core import files
    from hgrl.data.sets.bsds import open_bsds
    from hgrl.grouping.bsds_benchmark import result_text, run_benchmark
    from hgrl.reporting.figures.bsds import precision_recall_figure

    for name in ("thresholds", "workers", "limit", "every"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            raise InputError(f"bsds-bench: --{name} is {getattr(options, name)}; it must be at least 1")
    root = (options.data or paths.data_root() / "BSDS500").resolve()
    results = options.results.resolve()
    out = options.out or results.with_name(f"{results.name}-bsds.json")
    curve = out.with_suffix(".png")
    if curve.exists() and not out.exists():
        raise InputError(f"{curve}: is there already, and no curve of this command; give another --out")
    samples = open_bsds(root.parent, root.name, options.split)
    samples = samples.subset(range(len(samples))[:: options.every][: options.limit])
    result = run_benchmark(results, samples, out, options.kind, options.thresholds, options.workers)
    files.write_figure(curve, precision_recall_figure({out.stem: (result["recall"], result["precision"])}))
    print(result_text(result))
    for name, message in result["missing"].items():
        print(f"hgrl: {name}: {message}", file=sys.stderr)
    return 1 if result["missing"] else 0


def train_hed(options: Options) -> None:
    if options.out is None:
        _train_the_profiles_hed(options)
        return
    from hgrl.core.device import pick_device
    from hgrl.core.loading import with_changes
    from hgrl.core.settings import HedSettings
    from hgrl.data.sets.bsds import open_bsds
    from hgrl.grouping.hed.training import train_hed as train

    root = (options.data or paths.data_root() / "BSDS500").resolve()
    base = options.experiment.settings.hed if options.experiment else HedSettings()
    given = {name: getattr(options, name) for name in HED_FLAGS if getattr(options, name) is not None}
    settings = with_changes(
        base, given | ({"imagenet_weights": options.imagenet} if options.imagenet else {}), "train-hed"
    )
    samples = [open_bsds(root.parent, root.name, split) for split in options.splits]
    saved = train(samples, settings, options.out, pick_device(options.device or "auto"))
    trunk, images, loss = saved.identity["trunk"], saved.identity["images"], saved.losses[-50:].mean()
    print(f"{options.out}: trunk {trunk}, {images} images, {saved.step} steps, loss {loss:.4f}")
    print(f"next: python -m hgrl group PHOTOS --out TREES --hed {options.out}")


def _train_the_profiles_hed(options: Options) -> None:
    from hgrl.grouping.stage import train_edge_network

    own = ("data", "imagenet", "device", *HED_FLAGS)
    flags = [f"--{name.replace('_', '-')} goes" for name in own if getattr(options, name) is not None]
    if not options.experiment or flags:
        what = f"{flags[0]} with --out FILE" if flags else "give a profile, or --out FILE"
        raise InputError(f"train-hed: {what}; a profile's network takes its numbers from its `hed` section")
    summary = train_edge_network(options.experiment)
    steps, loss = summary["iterations"], summary["loss"]
    print(
        f"edge network: trunk {summary['trunk']}, {summary['images']} images, {steps} steps, loss {loss:.4f}"
    )
    print(f"next: dvc repro grouping-hed@{options.experiment.profile}")


if __name__ == "__main__":
    sys.exit(main())
