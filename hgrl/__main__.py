"""`python -m hgrl`: the pipeline's stages and the grouping tools, from the command line."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hgrl.core import paths
from hgrl.core.arguments import arg, number, path, switch
from hgrl.core.errors import InputError, ToldByFirst
from hgrl.core.experiment import load_experiment
from hgrl.data.fetching.archives import DATA_SETS
from hgrl.grouping_tools import Command, Options, grouping_tools, told


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
    for function, name, text, arguments in (*_stages(), *_trials(), *_results(), *grouping_tools()):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(command=function)
        for flags, options in arguments:
            command.add_argument(*flags, **options)
    return top


PROFILE = arg("experiment", metavar="profile", help="a file of profiles/, without .yaml")
DATA = path("--data", help="data root; default: HGRL_DATA, or data/")


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
    text = "params.yaml's changes of one setting at a time, for notebook 07"
    yield ablations, "ablations", text, [PROFILE]
    methods = arg("--methods", help="comma-separated; default: all under 'tuning' in params.yaml")
    text = "every method's trials on the tune split; about an hour in mini"
    yield tune, "tune", text, [PROFILE, methods]


def _results() -> Iterator[Command]:
    yield tables, "tables", "write the paper's tables from the scores at hand", [PROFILE]
    stage = arg("stage", choices=("probe", "retrieval", "tracking", "claims"))
    yield extras, "extras", "what a stage makes of the runs under `extras`", [stage, PROFILE]
    text = "probe the snapshots of the runs under `extras.convergence`"
    yield convergence, "convergence", text, [PROFILE]
    yield claims, "claims", "a verdict on every claim of the paper, from the scores at hand", [PROFILE]
    own = [arg("experiment", nargs="?", metavar="profile", help="write its results as a page")]
    own += [path("--html", metavar="FILE", help="the page; default: artifacts/PROFILE/report.html")]
    text = "which results are there, and what makes the missing ones; of a profile as one HTML page"
    yield report, "report", text, own
    own = [
        PROFILE,
        arg("run", help="a trained and probed run"),
        number("--seed", 0, help="which of its seeds"),
    ]
    yield (
        ship,
        "ship",
        "put a trained network into the package, with a card: what notebooks show at first",
        own,
    )
    own = [
        arg("photographs", nargs="*", metavar="PHOTO", help="files of your own; default: scikit-image's four")
    ]
    own += [path("--out", metavar="DIR", help="default: gallery; of scikit-image's four docs/gallery")]
    yield gallery, "gallery", "photographs with tree and embeddings, by the networks that ship", own
    yield readme, "readme", "write the committed results into README.md and results/README.md", []
    own = [path("out", metavar="FILE", nargs="?", help="default: docs/hero.png")]
    yield hero, "hero", "draw the strip that README opens with, by the network that ships", own
    quick = switch("--quick", "13 minutes on 2 cores, into results/quick")
    profile = arg("--profile", help="default: params.yaml's")
    more = switch("--extras", "more rows too: rivals, readings, fine-tuning, sweep, ablations, curves")
    text = "every table and figure: `dvc repro`, at the size of one profile"
    yield repro, "repro", text, [quick, profile, more]
    yield switch_profile, "profile", "choose the profile that `dvc repro` makes", [arg("name")]


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
        parameters[name] = {"True": True, "False": False}.get(value, value)
    swept = {f"sampling.{name}": parameters[name] for name in ("cns", "sigma_p") if name in parameters}
    options.experiment.settings_with(swept)  # a bad value is told before a kernel starts
    print(f"executed notebook: {run_notebook(options.name, options.experiment, parameters)}")


def trees(options: Options) -> None:
    from hgrl.grouping.stage import group

    summary = group(options.experiment, options.grouping)
    folder = options.experiment.files.trees(options.grouping)
    print(f"{summary['images']} trees, {len(summary['failures'])} failures in {folder}")
    told(summary["failures"])


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


def ablations(options: Options) -> None:
    from hgrl.evaluation import trials

    for name, result in trials.ablate(options.experiment).items():
        print(f"{name}: mIoU {trials.score_text(result)} on the tune split")


def tables(options: Options) -> None:
    from hgrl.reporting.tables import write_tables

    for file in write_tables(options.experiment):
        print(file.relative_to(paths.HOME))


def extras(options: Options) -> None:
    if options.stage == "claims":
        from hgrl.reporting.claims import judge_extras

        _tell_verdicts(judge_extras(options.experiment))
    else:
        from hgrl.evaluation.extras import evaluate_extras

        evaluate_extras(options.stage, options.experiment)
    print(options.experiment.files.extras.metrics(options.stage).relative_to(paths.HOME))


def convergence(options: Options) -> None:
    from hgrl.evaluation.convergence import trace

    for run, curve in trace(options.experiment).items():
        points = zip(curve["miou_mean"], curve["epochs"], strict=True)
        print(
            f"{run}: mIoU", ", ".join(f"{100 * miou:.2f} after {count:g}" for miou, count in points), "epochs"
        )


def claims(options: Options) -> None:
    from hgrl.reporting.claims import write_claims

    _tell_verdicts(write_claims(options.experiment))
    print(options.experiment.files.claims.with_suffix(".md").relative_to(paths.HOME))


def _tell_verdicts(entries: list[dict[str, Any]]) -> None:
    for entry in entries:
        print(f"{entry['id']:>4} {entry['claim']}: {entry['verdict']} ({entry['why']})")


def report(options: Options) -> None:
    from hgrl.core.pipeline import current_profile
    from hgrl.reporting.summary import summarise_results

    if options.experiment is None and options.html is None:
        print(summarise_results(load_experiment(current_profile())))
        return
    from hgrl.reporting.report import write_report

    print(write_report(options.experiment or load_experiment(current_profile()), options.html))


def ship(options: Options) -> None:
    from hgrl.reporting import shipping

    print(shipping.ship(options.experiment, options.experiment.run(options.run), options.seed))


def gallery(options: Options) -> None:
    from hgrl.reporting.gallery import PHOTOGRAPHS, write_gallery

    folder = Path("gallery") if options.photographs else paths.HOME / "docs" / "gallery"
    for picture in write_gallery(options.out or folder, options.photographs or PHOTOGRAPHS):
        print(picture)


def readme(options: Options) -> None:
    from hgrl.reporting.pages import update_readme

    update_readme()


def hero(options: Options) -> None:
    from hgrl.reporting.figures.hero import write_hero

    out = options.out or paths.HOME / "docs" / "hero.png"
    write_hero(out)
    print(out)


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
    reproduce(profile, options.extras)
    print(summarise_results(load_experiment(profile)))


if __name__ == "__main__":
    sys.exit(main())
