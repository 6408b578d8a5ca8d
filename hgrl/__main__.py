"""`python -m hgrl`: the pipeline's stages and the grouping tools, from the command line."""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from hgrl.core import paths
from hgrl.core.arguments import Argument, arg, number, path, switch
from hgrl.core.errors import InputError, ToldByFirst
from hgrl.core.experiment import load_experiment
from hgrl.data.fetching.archives import DATA_SETS

Options = argparse.Namespace
# settings of `hed` that are flags of train-hed
HED_FLAGS = dict.fromkeys(("width", "iterations", "batch", "crop_size", "seed"), int)
HED_FLAGS |= {"lr": float, "precision": str}


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
    for function, name, text, arguments in (*_stages(), *_trials(), *_results(), *_grouping(), *_detectors()):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(command=function)
        for flags, options in arguments:
            command.add_argument(*flags, **options)
    return top


Command = tuple[Callable[[Options], int | None], str, str, list[Argument]]

PROFILE = arg("experiment", metavar="profile", help="a file of profiles/, without .yaml")
DATA = path("--data", help="data root; default: HGRL_DATA, or data/")
BSDS500 = path("--data", help="folder of BSDS500; default: BSDS500 under HGRL_DATA")


def _stages() -> Iterator[Command]:
    names = arg("names", nargs="+", metavar="NAME", choices=list(DATA_SETS), help=", ".join(DATA_SETS))
    keep = switch("--keep-archives", "keep the archives after unpacking them")
    text = "download and unpack real data sets; after an interruption the same command goes on"
    yield fetch, "fetch", text, [names, DATA, keep]
    profile = arg("--profile", help="whose data must be there; default: params.yaml's")
    partial = switch("--allow-partial", "a set smaller than published will do")
    text = "what is under the data root; exit status 1 if the profile lacks some"
    yield check_data, "check-data", text, [DATA, profile, partial]
    yield prepare_data, "data", "draw the embedded scenes, or look through the real data sets", [PROFILE]
    own = [arg("name", help="e.g. 03_pretraining"), PROFILE]
    own += [arg("--run", help="a run of params.yaml, if the notebook takes one")]
    own += [arg("--runs", help="comma-separated runs, or all, if the notebook takes several")]
    own += [arg("-p", dest="set", action="append", default=[], metavar="NAME=VALUE", help="e.g. -p cns=5")]
    yield notebook, "notebook", "execute a numbered notebook headlessly with papermill", own
    grouping = arg("--grouping", help="one of the profile's `groupings`, e.g. hed; default: `grouping`")
    yield trees, "trees", "region trees of a profile's pretraining images", [PROFILE, grouping]
    run, seed = arg("run", help="a run of params.yaml"), number("--seed", help="default: the profile's seeds")
    text = "pretrain a run; under torchrun on several cards or machines"
    yield train, "train", text, [PROFILE, run, seed]


def _trials() -> Iterator[Command]:
    cns = arg("--cns", help="of one cell, e.g. 5 or 5,20; goes with --sigma-p")
    sigma_p = arg("--sigma-p", type=float, help="of one cell; goes with --cns")
    text = "params.yaml's grid over cns and sigma_p, or one cell of it"
    yield sweep, "sweep", text, [PROFILE, cns, sigma_p]
    methods = arg("--methods", help="comma-separated; default: all under 'tuning' in params.yaml")
    text = "every method's trials on the tune split; about an hour in mini"
    yield tune, "tune", text, [PROFILE, methods]


def _results() -> Iterator[Command]:
    yield tables, "tables", "write the paper's tables from the scores at hand", [PROFILE]
    yield convergence, "convergence", "probe the snapshots of the runs under `convergence`", [PROFILE]
    yield claims, "claims", "a verdict on every claim of the paper, from the scores at hand", [PROFILE]
    yield report, "report", "which results are there, and what makes the missing ones", []
    yield readme, "readme", "write the committed results into README.md and results/README.md", []
    quick = switch("--quick", "13 minutes on 2 cores, into results/quick")
    profile = arg("--profile", help="default: params.yaml's")
    yield repro, "repro", "every table and figure: `dvc repro`, at the size of one profile", [quick, profile]
    yield switch_profile, "profile", "choose the profile that `dvc repro` makes", [arg("name")]


def _grouping() -> Iterator[Command]:
    own = [
        path("images", nargs="+", help="image files, or folders of them"),
        path("--out", required=True),
        arg("--preset", default="fast", help="fast (.5 s per photograph) or best (2 s); default: fast"),
        number("--workers", help="processes on this machine; default: 1"),
        arg("--scheduler", metavar="ADDRESS", help="a Dask scheduler on this file system: tcp://host:8786"),
        path("--hed", metavar="WEIGHTS", help="detect edges by this file of train-hed, not by the forest"),
        switch("--edges", "edge maps too, as NAME.edges.png (16-bit grey)"),
    ]
    yield group, "group", "region trees of any photographs", own


def _detectors() -> Iterator[Command]:
    forest = [
        BSDS500,
        path("--out", default=Path("bsds500.npz"), help="default: bsds500.npz"),
        arg("--splits", default="train,val", help="comma-separated; train alone to score on val"),
        *(number("--trees", 8), number("--patches", 1_000_000, "per tree")),
        *(number("--seed", 0), number("--workers", 1)),
    ]
    yield train_forest, "train-forest", "train the structured forest on BSDS500", forest
    benchmark = [
        path("results", help="one file per image: .png (soft edges after NMS), .mat (ucm2) or .npz (tree)"),
        BSDS500,
        arg("--split", default="test", choices=("train", "val", "test")),
        arg("--kind", default="auto", choices=("auto", "edges", "ucm", "trees"), help="default: by endings"),
        *(number("--thresholds", 99), number("--workers", 2)),
        path("--out", help="default: RESULTS-bsds.json beside RESULTS; the curve as .png"),
        number("--limit", help="only the first N images"),
        number("--every", 1, "only every K-th image"),
    ]
    text = "score edge maps, contour maps (ucm2) or trees by the BSDS500 benchmark"
    yield bsds_bench, "bsds-bench", text, benchmark
    text = "whose `hed` settings to use; without --out, the pipeline's stage"
    own = [
        arg("experiment", nargs="?", metavar="profile", help=text),
        path("--out", help="write the weights here; all that follows goes with it"),
        BSDS500,
        arg("--splits", nargs="+", default=["train", "val"], help="default: train val"),
        arg("--imagenet", metavar="WEIGHTS", help="torchvision's vgg16 or vgg16_bn; default: from scratch"),
        arg("--device", help="default: auto"),
    ]
    for name, kind in HED_FLAGS.items():
        text = f"setting `hed.{name}`; see hgrl/core/settings.py"
        own.append(arg(f"--{name.replace('_', '-')}", type=kind, help=text))
    yield train_hed, "train-hed", "train the edge network (HED): a profile's own, or one of yours", own


def fetch(options: Options) -> int:
    from hgrl.data.fetching.fetch import fetch_data_sets

    root = options.data or paths.data_root()
    return 0 if fetch_data_sets(options.names, root, options.keep_archives) else 1


def check_data(options: Options) -> int:
    from hgrl.core.pipeline import current_profile
    from hgrl.data.fetching.survey import format_survey, survey

    profile, root = options.profile or current_profile(), options.data or paths.data_root()
    settings = load_experiment(profile).settings
    rows = survey(root, settings)
    print(f"data root: {root}\n{format_survey(rows, profile)}")
    lacking = [row for row in rows if row.needed and row.status not in ("complete", "present")]
    lacking = [row for row in lacking if row.found is None or not options.allow_partial]
    told = f"{len(lacking)} of the needed splits are not complete" if lacking else "all it needs is there"
    drawn = "it draws its own data, nothing has to be fetched"
    print(f"profile {profile}: {told if settings.data.scenes is None else drawn}")
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
    _told(summary["failures"])


def train(options: Options) -> None:
    """Exit status 0 after a SIGTERM too: the scheduler's restart of the same command goes on."""
    from hgrl.core.interruption import Stopped
    from hgrl.pretraining.ranks import is_first
    from hgrl.pretraining.stage import pretrain

    experiment = options.experiment
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

    results = (
        [] if options.cns is None else [trials.sweep_cell(options.experiment, options.cns, options.sigma_p)]
    )
    for result in results or trials.sweep(options.experiment).values():
        cns, sigma_p = (result["overrides"][f"sampling.{name}"] for name in ("cns", "sigma_p"))
        print(f"cns {cns}, sigma_p {sigma_p}: mIoU {trials.score_text(result)} on the tune split")


def tune(options: Options) -> None:
    from hgrl.evaluation import trials

    methods = options.methods.split(",") if options.methods else None
    for name, result in trials.tune(options.experiment, methods).items():
        print(f"{name}: {100 * result['miou_mean']:.2f}")


def tables(options: Options) -> None:
    from hgrl.reporting.tables import write_tables

    for file in write_tables(options.experiment):
        print(file.relative_to(paths.HOME))


def convergence(options: Options) -> None:
    from hgrl.evaluation.convergence import trace

    for run, curve in trace(options.experiment).items():
        points = zip(curve["miou_mean"], curve["epochs"], strict=True)
        print(
            f"{run}: mIoU", ", ".join(f"{100 * miou:.2f} after {count:g}" for miou, count in points), "epochs"
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
    if options.scheduler and options.workers:
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
    return _told(failures)


def train_forest(options: Options) -> None:
    from hgrl.grouping.forest.model import train_forest as train

    given = {name: getattr(options, name) for name in ("trees", "patches", "seed", "workers")}
    root = options.data or paths.data_root() / "BSDS500"
    train(root, options.out, splits=tuple(options.splits.split(",")), **given)


def bsds_bench(options: Options) -> int:
    from hgrl.core import files
    from hgrl.data.sets.bsds import open_bsds
    from hgrl.grouping.bsds_benchmark import result_text, run_benchmark
    from hgrl.reporting.figures.bsds import precision_recall_figure

    for name in ("thresholds", "workers", "limit", "every"):
        if (value := getattr(options, name)) is not None and value < 1:
            raise InputError(f"bsds-bench: --{name} is {value}; it must be at least 1")
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
    return _told(result["missing"])


def _told(problems: dict[str, str]) -> int:
    """Print what is wrong with each of some images; the exit status."""
    for name, problem in problems.items():
        print(f"hgrl: {name}: {problem}", file=sys.stderr)
    return 1 if problems else 0


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
    weights = {"imagenet_weights": options.imagenet} if options.imagenet else {}
    settings = with_changes(base, given | weights, "train-hed")
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
    about = f"trunk {summary['trunk']}, {summary['images']} images, {summary['iterations']} steps"
    print(f"edge network: {about}, loss {summary['loss']:.4f}")
    print(f"next: dvc repro grouping-hed@{options.experiment.profile}")


if __name__ == "__main__":
    sys.exit(main())
