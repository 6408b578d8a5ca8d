"""The BSDS500 benchmark on files: a folder of results against the data set, in processes, with a table, a
JSON file and a curve.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hgrl.core import files as store
from hgrl.core import paths
from hgrl.core.errors import InputError
from hgrl.core.progress import bar
from hgrl.core.provenance import PACKAGE, fingerprint
from hgrl.data.sets.bsds import ContourSamples, load_ucm2, open_bsds
from hgrl.grouping.region_tree import RegionTree
from hgrl.metrics import bsds
from hgrl.metrics.boundaries import THRESHOLDS, BoundaryCounts, benchmark_thresholds, contour_strength
from hgrl.metrics.bsds import BenchmarkCounts, ImageScore
from hgrl.metrics.regions import Hierarchy, RegionCounts

ENDINGS = {"edges": ".png", "ucm": ".mat", "trees": ".npz"}
CODE = (
    "bsds_bench.py",
    "data/bsds.py",
    *(f"metrics/{name}.py" for name in ("boundaries", "bsds", "outlines", "regions")),
)


def run_benchmark(
    results: Path,
    data: Path,
    out: Path,
    split: str = "test",
    kind: str = "auto",
    thresholds: int = THRESHOLDS,
    workers: int = 2,
    limit: int | None = None,
    every: int = 1,
) -> dict[str, Any]:
    """Score `results/<image>.png` (edges), `.mat` (ucm) or `.npz` (trees) and write `out` (JSON) and its
    precision-recall curve (PNG).

    Edge maps are thresholded and thinned: give them soft and with non-maxima suppressed, as the field does,
    or thick edges lose precision.
    data: the folder of BSDS500. `limit` and `every` take the first images, and each so-manieth of them.
    Scores of finished images are kept in `<out>.parts` until all is done, so an interrupted run goes on. The
    answer is the content of the file: the figures of `hgrl.metrics.bsds.benchmark_figures`, recall and
    precision at each threshold, `per_image` counts (see `load_counts`), `images`, `seconds` (of this run),
    `peak_gib` (all processes together), and `missing`: {image: what is wrong}, for images that are not in the
    figures.
    Raises InputError when nothing can be scored, for a kind that cannot be told from the files, and for
    numbers below 1.
    """
    # here, for the workers draw nothing and matplotlib is large
    from hgrl.reporting.figures.bsds import precision_recall_figure

    started = time.monotonic()
    results, out = Path(results), Path(out)
    if min(thresholds, workers, every, 1 if limit is None else limit) < 1:
        raise InputError("bsds-bench: thresholds, workers, limit and every must be at least 1")
    if out.suffix != ".json":
        raise InputError(f"{out}: the result is a JSON file; give --out a name that ends in .json")
    samples = open_bsds(Path(data).resolve().parent, Path(data).resolve().name, split)
    samples = samples.subset(list(range(len(samples)))[::every][:limit])
    kind, files, missing = find_results(results, samples, kind)
    parts = out.with_suffix(".parts")
    tasks = [
        (samples.subset([k]), file, kind, thresholds, parts / f"{samples.images[k].stem}.json")
        for k, file in files.items()
    ]
    scores, memory = {}, {}
    for name, answer, process, peak in bar(_in_processes(tasks, workers), desc="scoring", total=len(tasks)):
        memory[process] = peak
        (missing if isinstance(answer, str) else scores)[name] = answer
    if not scores:
        raise InputError(next(iter(missing.values())))
    memory[os.getpid()] = _peak_gib()
    names = [image.stem for image in samples.images if image.stem in scores]
    counts = bsds.gather(names, benchmark_thresholds(thresholds), [scores[name] for name in names])
    result = _content(counts) | {
        "kind": kind,
        "split": split,
        "missing": {name: missing[name] for name in sorted(missing)},
        "seconds": round(time.monotonic() - started, 1),
        "workers": workers,
        "peak_gib": round(sum(memory.values()), 2),
    }
    store.write_text(out, _json(result))
    store.write_figure(
        out.with_suffix(".png"), precision_recall_figure({out.stem: bsds.precision_recall(counts)})
    )
    _remove([task[-1] for task in tasks])
    return result


def find_results(
    results: Path, samples: ContourSamples, kind: str = "auto"
) -> tuple[str, dict[int, Path], dict[str, str]]:
    """(kind, {index of the sample: its file}, {image: what is wrong} for those without one).

    A file lies at `results/<image><ending>` or `results/<sample name><ending>` (as `hgrl group` nests them).
    """
    if not results.is_dir():
        raise InputError(f"{results}: no such folder; give the folder that holds one result file an image")
    found = {
        name: dict(_files(results, samples, ending))
        for name, ending in ENDINGS.items()
        if kind in (name, "auto")
    }
    present = [name for name, files in found.items() if files]
    if not present:
        looked = ", ".join(f"{samples.images[0].stem}{ENDINGS[name]}" for name in found)
        raise InputError(
            f"{results}: no result for any of the {len(samples)} images (looked for {looked}, ...); give another folder or --split"
        )
    if len(present) > 1:
        raise InputError(
            f"{results}: holds results of several kinds ({', '.join(present)}); choose one with --kind"
        )
    files = found[present[0]]
    missing = {
        samples.images[k].stem: f"{results}: no file for this image"
        for k in range(len(samples))
        if k not in files
    }
    return present[0], files, missing


def _files(results: Path, samples: ContourSamples, ending: str) -> Iterator[tuple[int, Path]]:
    for k, (name, image) in enumerate(zip(samples.names, samples.images)):
        for path in (results / f"{image.stem}{ending}", results / f"{name}{ending}"):
            if path.is_file():
                yield k, path
                break


def load_counts(path: Path) -> BenchmarkCounts:
    """The counts of each image from a file that `run_benchmark` wrote, for `hgrl.metrics.paired_bootstrap`.
    InputError for another file.
    """
    content = store.read_json(path)
    try:
        thresholds = np.array(content["thresholds"], float)
        scores = [_score(image, len(thresholds)) for image in content["per_image"].values()]
        return bsds.gather(list(content["per_image"]), thresholds, scores)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path}: not a result of `python -m hgrl bsds-bench` ({error}); run it again"
        ) from error


def committed_curves() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{name: (recall, precision)} on the 200 test images, from results/bsds500/curves.json (written by
    benchmarks/bsds500.py); {} without it.
    """
    path = paths.HOME / "results" / "bsds500" / "curves.json"
    curves = store.read_json(path) if path.exists() else {}
    return {name: (np.array(curve["recall"]), np.array(curve["precision"])) for name, curve in curves.items()}


def report(result: dict[str, Any]) -> str:
    """The printed table: the figures, and how many images, how long, how much memory."""
    of = f"{result['images']} images of {result['split']}" + (
        f" ({len(result['missing'])} MISSING)" if result["missing"] else ""
    )
    cost = f"{result['seconds']:.0f} s with {result['workers']} processes, peak memory {result['peak_gib']:.2f} GiB"
    return f"{bsds.figures_text(result)}\n\n{of}, {len(result['thresholds'])} thresholds; {cost}"


# --- one image
# ----------------------------------------------------------------------------------------------------------------


def score_file(path: Path, kind: str, sample: ContourSamples, thresholds: np.ndarray) -> ImageScore:
    """Score one file against one image's annotators. Raises InputError for a damaged file and for one of
    another image's size.
    """
    truths, boundaries = sample.ground_truth(0), sample.boundaries(0)
    if kind == "edges":
        edge_map = load_edges(path)
        _check_size(edge_map.shape, truths[0].shape, path)
        return bsds.score_edges(edge_map, boundaries, thresholds)
    if kind == "ucm":
        ucm2 = load_ucm2(path)
        _check_size((ucm2.shape[0] // 2, ucm2.shape[1] // 2), truths[0].shape, path)
        return bsds.score_ucm(ucm2, boundaries, truths, thresholds)
    tree = RegionTree.load(path)
    _check_size(tree.labels.shape, truths[0].shape, path)
    groups = np.array([tree.leaf_groups(threshold) for threshold in thresholds]).astype(np.int64) + 1
    return bsds.score_hierarchy(
        contour_strength(tree.labels, tree.distances()),
        Hierarchy(tree.labels, groups),
        boundaries,
        truths,
        thresholds,
    )


def load_edges(path: Path) -> np.ndarray:
    """An 8- or 16-bit grey PNG as (H, W) float64 in [0, 1]. Raises InputError for a missing or damaged file,
    and for colours.
    """
    levels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if Path(path).is_file() else None
    if levels is None:
        raise InputError(
            f"{path}: cannot be read as an image; write the edge map as an 8- or 16-bit grey PNG"
        )
    if levels.ndim != 2:
        raise InputError(
            f"{path}: has {levels.shape[2]} channels; write the edge map as an 8- or 16-bit grey PNG"
        )
    return levels / float(np.iinfo(levels.dtype).max)


def _check_size(found: tuple[int, ...], wanted: tuple[int, ...], path: Path) -> None:
    if tuple(found) != tuple(wanted):
        raise InputError(
            f"{path}: is of a {found[1]}x{found[0]} image, but the image is {wanted[1]}x{wanted[0]}; write it at the image's size"
        )


def _score_task(task: tuple) -> tuple[str, ImageScore | str, int, float]:
    """(image, its score or what is wrong, process, peak memory of the process in GiB); the score is kept in a
    file of its own.
    """
    sample, file, kind, thresholds, part = task
    name = sample.images[0].stem
    key = fingerprint(file, sample.ground_truths[0], kind, thresholds, *(PACKAGE / code for code in CODE))
    answer = _kept(part, key, thresholds)
    if answer is None:
        try:
            answer = score_file(file, kind, sample, benchmark_thresholds(thresholds))
            store.write_bytes(part, json.dumps({"key": key, **_numbers(answer)}).encode(), durable=False)
        except InputError as error:
            answer = str(error)
    return name, answer, os.getpid(), _peak_gib()


def _kept(part: Path, key: str, thresholds: int) -> ImageScore | None:
    """What an interrupted run left for the same files and the same code, or None."""
    try:
        content = json.loads(part.read_text())
        return _score(content, thresholds) if content["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remove(parts: Sequence[Path]) -> None:
    for part in parts:
        part.unlink(missing_ok=True)
    with suppress(OSError):  # another run's are in it, or nothing was kept
        parts[0].parent.rmdir()


def _in_processes(tasks: Sequence[tuple], workers: int) -> Iterator[tuple[str, ImageScore | str, int, float]]:
    """`_score_task` of each task, in `workers` processes of one thread; results as they come."""
    if workers == 1 or len(tasks) == 1:
        yield from map(_score_task, tasks)
        return
    context = multiprocessing.get_context("forkserver")  # a fork of a process with threads may hang
    with ProcessPoolExecutor(
        min(workers, len(tasks)), mp_context=context, initializer=cv2.setNumThreads, initargs=(1,)
    ) as pool:
        try:
            for done in as_completed([pool.submit(_score_task, task) for task in tasks]):
                yield done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _peak_gib() -> float:
    unit = 2**30 if sys.platform == "darwin" else 2**20  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


# --- the file
# -----------------------------------------------------------------------------------------------------------------


def _content(counts: BenchmarkCounts) -> dict[str, Any]:
    recall, precision = bsds.precision_recall(counts)
    curves = {
        "thresholds": counts.thresholds.tolist(),
        "recall": recall.tolist(),
        "precision": precision.tolist(),
    }
    per_image = {name: _numbers(score) for name, score in zip(counts.names, counts.scores())}
    return bsds.benchmark_figures(counts) | curves | {"images": len(counts), "per_image": per_image}


def _numbers(score: ImageScore) -> dict[str, dict[str, Any]]:
    """A score for json: a list for each count, or one number where all thresholds have the same."""
    parts = {"boundaries": score.boundaries} | ({} if score.regions is None else {"regions": score.regions})
    return {
        part: {name: _shortened(np.asarray(values)) for name, values in counts._asdict().items()}
        for part, counts in parts.items()
    }


def _shortened(values: np.ndarray) -> Any:
    rounded = [
        float(f"{value:.10g}") if values.dtype.kind == "f" else int(value) for value in np.atleast_1d(values)
    ]
    return rounded[0] if all(value == rounded[0] for value in rounded) else rounded


def _score(numbers: dict[str, dict[str, Any]], thresholds: int) -> ImageScore:
    """What `_numbers` wrote."""
    boundaries = {
        name: _lengthened(values, thresholds, np.int64) for name, values in numbers["boundaries"].items()
    }
    if "regions" not in numbers:
        return ImageScore(BoundaryCounts(**boundaries), None)
    best = float(numbers["regions"]["covered_best"])
    regions = {
        name: _lengthened(values, thresholds, float)
        for name, values in numbers["regions"].items()
        if name != "covered_best"
    }
    return ImageScore(BoundaryCounts(**boundaries), RegionCounts(**regions, covered_best=best))


def _lengthened(values: Any, thresholds: int, dtype: type) -> np.ndarray:
    return np.broadcast_to(np.array(values, dtype), thresholds).copy()


def _json(result: dict[str, Any]) -> str:
    """A line for each entry, and for each image: readable, and small."""
    lines = [f'"{key}": {json.dumps(value)}' for key, value in sorted(result.items()) if key != "per_image"]
    images = ",\n".join(
        f'  "{name}": {json.dumps(numbers, separators=(",", ":"))}'
        for name, numbers in result["per_image"].items()
    )
    return "{\n" + ",\n".join([*lines, '"per_image": {\n' + images + "\n}"]) + "\n}\n"
