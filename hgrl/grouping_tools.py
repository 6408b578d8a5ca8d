"""Commands of `python -m hgrl` on grouping alone: trees of any photographs, edge detectors, their scores."""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hgrl.core import paths
from hgrl.core.arguments import Argument, arg, number, path, switch
from hgrl.core.errors import InputError

Options = argparse.Namespace
Command = tuple[Callable[[Options], int | None], str, str, list[Argument]]
# settings of an edge network that are flags of its training
BOTH_FLAGS = dict.fromkeys(("iterations", "batch", "crop_size", "seed"), int)
BOTH_FLAGS |= {"lr": float, "precision": str}
HED_FLAGS = {"width": int} | BOTH_FLAGS
PIDINET_FLAGS = {"size": str} | BOTH_FLAGS
SHIPPED = Path("shipped")  # stands for the weights that come with the package
BSDS500 = path("--data", help="folder of BSDS500; default: BSDS500 under HGRL_DATA")


def grouping_tools() -> Iterator[Command]:
    yield from _grouping()
    yield from _detectors()


def _grouping() -> Iterator[Command]:
    pidinet = "detect edges by PiDiNet: the shipped weights, or a file of train-pidinet"
    own = [
        path("images", nargs="+", help="image files, or folders of them"),
        path("--out", required=True),
        arg("--preset", default="fast", help="fast (.5 s per photograph) or best (2 s); default: fast"),
        number("--workers", help="processes on this machine; default: 1"),
        arg("--scheduler", metavar="ADDRESS", help="a Dask scheduler on this file system: tcp://host:8786"),
        path("--hed", metavar="WEIGHTS", help="detect edges by this file of train-hed, not by the forest"),
        arg("--pidinet", metavar="WEIGHTS", nargs="?", type=Path, const=SHIPPED, help=pidinet),
        arg("--device", default="cpu", help="of a network: cpu (the default), cuda, mps or auto"),
        switch("--edges", "edge maps too, as NAME.edges.png (16-bit grey)"),
        switch("--pictures", "a picture of each tree, NAME.regions.png, and a page to explore it, NAME.html"),
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
    own += _setting_flags("hed", HED_FLAGS)
    yield train_hed, "train-hed", "train the edge network (HED): a profile's own, or one of yours", own
    own = [
        arg("experiment", nargs="?", metavar="profile", help="whose `pidinet` settings to use"),
        path("--out", default=Path("pidinet.pt"), help="default: pidinet.pt; goes on where it stopped"),
        BSDS500,
        arg("--splits", nargs="+", help="of BSDS500; default: the setting `pidinet.sources`, train val"),
        arg("--device", help="default: auto"),
    ]
    own += _setting_flags("pidinet", PIDINET_FLAGS)
    yield train_pidinet, "train-pidinet", "train the small edge network (PiDiNet) from scratch", own


def _setting_flags(section: str, flags: dict[str, type]) -> list[Argument]:
    text = f"setting `{section}.{{}}`; see hgrl/core/settings.py"
    return [
        arg(f"--{name.replace('_', '-')}", type=kind, help=text.format(name)) for name, kind in flags.items()
    ]


def group(options: Options) -> int:
    from hgrl.core.loading import grouping_preset
    from hgrl.data.sets.folder import open_folder
    from hgrl.grouping.edges import EdgeNetwork, edge_network
    from hgrl.grouping.group import group_images
    from hgrl.grouping.outputs import is_our_image

    workers = 1 if options.workers is None else options.workers
    if workers < 1:
        raise InputError(f"group: --workers must be at least 1 (got {workers})")
    if options.scheduler and options.workers:
        raise InputError("group: --scheduler has workers of its own; give it or --workers, not both")
    settings, network = grouping_preset(options.preset), None
    samples = open_folder(options.images, results=options.out)
    photographs = [k for k, path in enumerate(samples.images) if not is_our_image(path)]
    if not photographs:
        raise InputError("group: all these images were written by `group` itself; give photographs")
    samples = samples.subset(photographs)
    if options.hed and options.pidinet:
        raise InputError("group: --hed and --pidinet are two detectors; give one")
    if kind := "hed" if options.hed else "pidinet" if options.pidinet else None:
        from hgrl.core.device import pick_device
        from hgrl.grouping.edge_network import load_network

        settings, weights = grouping_preset(options.preset, edges=kind), getattr(options, kind)
        given = None if weights is SHIPPED else EdgeNetwork(weights.absolute())
        network = edge_network(settings, given)._replace(device=str(pick_device(options.device)))
        load_network(network.weights, kind)  # reports a foreign file once, not for every image
    how = {"scheduler": options.scheduler, "network": network, "edges": options.edges}
    failures = group_images(samples, options.out, settings, workers, **how)
    print(f"{len(samples) - len(failures)} of {len(samples)} images have a region tree in {options.out}")
    if options.pictures:
        from hgrl.reporting.explorer import write_pictures

        grouped = samples.subset([k for k, name in enumerate(samples.names) if name not in failures])
        undrawn = write_pictures(grouped, options.out, settings, network, workers)
        print(f"{len(grouped) - len(undrawn)} of them have pictures: open NAME.html in a browser")
        failures |= undrawn
    return told(failures)


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
    return told(result["missing"])


def told(problems: dict[str, str]) -> int:
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
    _tell_training(saved, options.out, "hed")


def train_pidinet(options: Options) -> None:
    from hgrl.core.device import pick_device
    from hgrl.core.loading import with_changes
    from hgrl.core.settings import PidinetSettings
    from hgrl.data.sets.bsds import open_bsds
    from hgrl.data.sources import open_samples
    from hgrl.grouping.pidinet.training import train_pidinet as train

    profile, data = options.experiment, paths.data_root()
    base, data = (profile.settings.pidinet, profile.data_root) if profile else (PidinetSettings(), data)
    given = {name: value for name in PIDINET_FLAGS if (value := getattr(options, name)) is not None}
    settings = with_changes(base, given, "train-pidinet")
    if options.data or options.splits:
        root = (options.data or data / "BSDS500").resolve()
        splits = options.splits or [source.split for source in settings.sources]
        samples = [open_bsds(root.parent, root.name, split) for split in splits]
    else:
        samples = [open_samples(source, data) for source in settings.sources]
    saved = train(samples, settings, options.out, pick_device(options.device or "auto"))
    _tell_training(saved, options.out, "pidinet")


def _tell_training(saved: Any, out: Path, kind: str) -> None:
    trunk, images, loss = saved.identity["trunk"], saved.identity["images"], saved.losses[-50:].mean()
    print(f"{out}: trunk {trunk}, {images} images, {saved.step} steps, loss {loss:.4f}")
    print(f"next: python -m hgrl group PHOTOS --out TREES --{kind} {out}")


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
