"""The BSDS500 benchmark on files: a folder of results against the data set, in processes, to a JSON file."""

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hgrl.core import files
from hgrl.core.cache import code_fingerprint, fingerprint, store_scores, stored_scores
from hgrl.core.errors import InputError
from hgrl.core.processes import as_completed
from hgrl.core.progress import bar
from hgrl.data.sets.bsds import ContourSamples, load_ucm2
from hgrl.grouping.region_tree import RegionTree
from hgrl.metrics import bsds
from hgrl.metrics.boundaries import THRESHOLDS, BoundaryCounts, benchmark_thresholds, contour_strength
from hgrl.metrics.bsds import BenchmarkCounts, ImageScore
from hgrl.metrics.regions import Hierarchy, RegionCounts, ucm_hierarchy

ENDINGS = {"edges": ".png", "ucm": ".mat", "trees": ".npz"}


def run_benchmark(
    results: Path,
    samples: ContourSamples,
    out: Path,
    kind: str = "auto",
    thresholds: int = THRESHOLDS,
    workers: int = 2,
) -> dict[str, Any]:
    """Score `results/<image>.png` (edges), `.mat` (ucm) or `.npz` (trees) and write the JSON file `out`.

    Edge maps are thresholded and thinned: give them soft and with non-maxima suppressed, as the field does,
    or thick edges lose precision. Scores of finished images lie in `<out>.parts` until all is done, so that
    an interrupted run goes on where it stopped. Returns the content of the file: the figures of
    `hgrl.metrics.bsds.benchmark_figures`, recall and precision at each threshold, `per_image` counts (see
    `load_counts`), `images`, `seconds` (of this run), and `missing`: {image: what is wrong}, for images that
    are not in the figures. Raises InputError when nothing can be scored, for a kind that cannot be told from
    the files, for an `out` that is there and no such file, and when a worker process is killed."""
    started = time.monotonic()
    if out.suffix != ".json":
        raise InputError(f"{out}: the result is a JSON file; give --out a name that ends in .json")
    if out.exists():
        load_counts(out)  # no other file is overwritten
    kind, found = find_results(results, samples, kind)
    without = [image.stem for k, image in enumerate(samples.images) if k not in found]
    scores, missing = {}, dict.fromkeys(without, f"{results}: no file for this image")
    parts = {k: out.with_suffix(".parts") / f"{samples.images[k].stem}.json" for k in found}
    code = code_fingerprint(__name__)
    tasks = [(samples.subset([k]), file, kind, thresholds, parts[k], code) for k, file in found.items()]
    done = as_completed(_score_task, tasks, min(workers, len(tasks)), "bsds-bench")
    for name, answer in bar(done, desc="scoring", total=len(tasks)):
        (missing if isinstance(answer, str) else scores)[name] = answer
    if not scores:
        raise InputError(next(iter(missing.values())))
    scores = {image.stem: scores[image.stem] for image in samples.images if image.stem in scores}
    counts = bsds.gather(list(scores), benchmark_thresholds(thresholds), list(scores.values()))
    curve = zip(("recall", "precision"), bsds.precision_recall(counts), strict=True)
    result = bsds.benchmark_figures(counts) | {name: values.tolist() for name, values in curve}
    result |= {"thresholds": counts.thresholds.tolist(), "images": len(counts), "workers": workers}
    result |= {"per_image": {name: _numbers(score) for name, score in scores.items()}, "kind": kind}
    result |= {"split": samples.images[0].parent.name, "missing": dict(sorted(missing.items()))}
    result["seconds"] = round(time.monotonic() - started, 1)
    files.write_text(out, _json(result))
    for part in parts.values():
        part.unlink(missing_ok=True)
    with suppress(OSError):  # parts of other images may be in it
        out.with_suffix(".parts").rmdir()
    return result


def find_results(results: Path, samples: ContourSamples, kind: str = "auto") -> tuple[str, dict[int, Path]]:
    """(kind, {index of the sample: its file}), named after the image or, as by `hgrl group`, the sample."""
    if not results.is_dir():
        raise InputError(f"{results}: no such folder; give the folder that holds one result file per image")
    found: dict[str, dict[int, Path]] = {name: {} for name in ENDINGS if kind in (name, "auto")}
    for name, paths in found.items():
        for k, image in enumerate(samples.images):
            for stem in (samples.names[k], image.stem):
                if (path := results / f"{stem}{ENDINGS[name]}").is_file():
                    paths[k] = path
    present = [name for name, paths in found.items() if paths]
    if len(present) > 1:
        several = f"holds results of several kinds ({', '.join(present)})"
        raise InputError(f"{results}: {several}; choose one with --kind")
    if not present:
        looked = ", ".join(f"{samples.images[0].stem}{ENDINGS[name]}" for name in found)
        none = f"no result for any of the {len(samples)} images (looked for {looked}, ...)"
        raise InputError(f"{results}: {none}; give another folder or --split")
    return present[0], found[present[0]]


def load_counts(path: Path) -> BenchmarkCounts:
    """The counts in a file by `run_benchmark`, for `bsds.paired_bootstrap`. InputError for another file."""
    content = files.read_json(path)
    try:
        thresholds = np.array(content["thresholds"], float)
        scores = [_score(image, len(thresholds)) for image in content["per_image"].values()]
        return bsds.gather(list(content["per_image"]), thresholds, scores)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"not a result of `python -m hgrl bsds-bench` ({error})"
        raise InputError(f"{path}: {what}; name another file") from error


def result_text(result: dict[str, Any]) -> str:
    """The printed table: the figures, how many images, and how long it took."""
    missing = f" ({len(result['missing'])} MISSING)" if result["missing"] else ""
    what = f"{result['images']} images of {result['split']}{missing}, {len(result['thresholds'])} thresholds"
    cost = f"{result['seconds']:.0f} s with {result['workers']} processes"
    return f"{bsds.figures_text(result)}\n\n{what}; {cost}"


def score_file(path: Path, kind: str, sample: ContourSamples, thresholds: np.ndarray) -> ImageScore:
    """An image's score. InputError for a damaged file, one of another size, a ground truth that is none."""
    truths, boundaries, hierarchy = sample.ground_truth(0), sample.boundaries(0), None
    if kind == "edges":
        strength = load_edges(path)
    elif kind == "ucm":
        ucm2 = load_ucm2(path)
        strength, hierarchy = ucm2[2::2, 2::2], ucm_hierarchy(ucm2, thresholds)
    else:
        tree = RegionTree.load(path)
        groups = np.array([tree.leaf_groups(threshold) for threshold in thresholds]).astype(np.int64) + 1
        strength = contour_strength(tree.labels, tree.distances())
        hierarchy = Hierarchy(tree.labels, groups)
    if strength.shape != truths[0].shape:
        found, wanted = (f"{width}x{height}" for height, width in (strength.shape, truths[0].shape))
        sizes = f"is of a {found} image, but the image is {wanted}"
        raise InputError(f"{path}: {sizes}; write it at the image's size")
    return bsds.score_image(strength, hierarchy, boundaries, truths, thresholds)


def load_edges(path: Path) -> np.ndarray:
    """An 8- or 16-bit grey PNG as (H, W) float64 in [0, 1]; InputError for others, and for 0 and 1 alone."""
    levels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if Path(path).is_file() else None
    if levels is None or levels.ndim != 2:
        wrong = "cannot be read as an image" if levels is None else f"has {levels.shape[2]} channels"
        raise InputError(f"{path}: {wrong}; write the edge map as an 8- or 16-bit grey PNG")
    if levels.max() == 1:  # at most 1/255, below every threshold
        raise InputError(f"{path}: is of 0 and 1 alone; scale it to the type's largest, 255 or 65535")
    return levels / float(np.iinfo(levels.dtype).max)


def _score_task(task: tuple) -> tuple[str, ImageScore | str]:
    """(image, its score or what is wrong); the score is also written to a file of its own."""
    sample, file, kind, thresholds, part, code = task
    name, key = sample.images[0].stem, fingerprint(file, sample.ground_truths[0], kind, thresholds, code)
    if (content := stored_scores(part, key)) is not None:  # left by an interrupted run
        return name, _score(content, thresholds)
    try:
        score = score_file(file, kind, sample, benchmark_thresholds(thresholds))
    except InputError as error:
        return name, str(error)
    store_scores(part, key, _numbers(score))
    return name, score


def _numbers(score: ImageScore) -> dict[str, dict[str, Any]]:
    """A score for json: a list per count, or one number where all thresholds have the same."""

    def shortened(values: np.ndarray | float) -> Any:
        rounded = [float(f"{v:.10g}") if isinstance(v, float) else v for v in np.atleast_1d(values).tolist()]
        return rounded[0] if len(set(rounded)) == 1 else rounded

    counts = {part: values._asdict() for part, values in score._asdict().items() if values is not None}
    return {part: {name: shortened(v) for name, v in values.items()} for part, values in counts.items()}


def _score(numbers: dict[str, dict[str, Any]], thresholds: int) -> ImageScore:
    """What `_numbers` wrote."""
    boundaries, regions = (
        {name: np.broadcast_to(np.array(v, kind), thresholds) for name, v in numbers.get(part, {}).items()}
        for part, kind in (("boundaries", np.int64), ("regions", np.float64))
    )
    if regions:
        regions["covered_best"] = float(regions["covered_best"][0])
    return ImageScore(BoundaryCounts(**boundaries), RegionCounts(**regions) if regions else None)


def _json(result: dict[str, Any]) -> str:
    """A line per entry and per image: readable, and small."""
    lines = [f'"{key}": {json.dumps(value)}' for key, value in sorted(result.items()) if key != "per_image"]
    per_image = result["per_image"].items()
    images = [f'  "{name}": {json.dumps(numbers, separators=(",", ":"))}' for name, numbers in per_image]
    return "{\n" + ",\n".join([*lines, '"per_image": {\n' + ",\n".join(images) + "\n}"]) + "\n}\n"
