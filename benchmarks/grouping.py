"""Grouping's speed and scale: each part's time, two rivals, two workers against one, files, and many images.

    python benchmarks/grouping.py [--images N] [--out FILE]

On BSDS500's val photographs where HGRL_DATA is set, else on scikit-image's at 481x321; one thread. Prints
tables; with --out also writes JSON.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import psutil  # comes with distributed
from figures import seconds_of
from photographs import SIZE, TREE_SIZE, fill

from hgrl.core.files import write_json
from hgrl.core.loading import grouping_preset
from hgrl.core.processes import one_thread
from hgrl.core.progress import bar
from hgrl.core.results import machine
from hgrl.core.settings import GroupingSettings
from hgrl.data.sets.folder import open_folder
from hgrl.grouping.group import group_images, region_tree
from hgrl.grouping.outputs import save_edge_map, tree_path
from hgrl.grouping.region_tree import RegionTree

PRESETS = {name: grouping_preset(name) for name in ("fast", "best")}
PARTS = {  # what is timed, each without the other parts that it calls
    "read": ("hgrl.data.samples:read_image",),
    "SE": ("hgrl.grouping.group:detect_edges",),
    "spectral": ("hgrl.grouping.group:add_spectral",),
    "OWT-UCM": ("hgrl.grouping.group:watershed_arcs", "hgrl.grouping.hierarchy:build_hierarchy"),
    "tree": ("hgrl.grouping.merge_tree:MergeTree.cut", "hgrl.grouping.region_tree:RegionTree.distances"),
    "write": ("hgrl.grouping.group:save_edge_map", "hgrl.grouping.region_tree:RegionTree.save"),
}
TARGETS = {"fast": 0.5, "best": 2.0}  # seconds per image on one core, at 481x321
MANY = {"VOC + COCO": 93_000, "ImageNet": 1_280_000, "a billion": 1_000_000_000}
TIMED_RUN = """
import json, sys, time
from pathlib import Path
started = time.perf_counter()
from hgrl.core.settings import GroupingSettings
from hgrl.data.sets.folder import open_folder
from hgrl.grouping.group import group_images
folder, out, workers, settings = sys.argv[1:]
settings = GroupingSettings.model_validate_json(settings)
failures = group_images(open_folder([Path(folder)]), Path(out), settings, int(workers), edges=True)
assert not failures, failures
print(time.perf_counter() - started)
"""


class Clock:
    """Seconds spent in each part, nested calls not counted twice."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.inner = [0.0]  # for each call under way: seconds of the parts it called

    def timed(self, part: str, function: Callable) -> Callable:
        def wrapper(*args: Any, **options: Any) -> Any:
            self.inner.append(0.0)
            started = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                seconds = time.perf_counter() - started
                self.seconds[part] += seconds - self.inner.pop()
                self.inner[-1] += seconds

        return wrapper

    @contextmanager
    def running(self) -> Iterator[None]:
        with ExitStack() as patches:
            for part, names in PARTS.items():
                for name in names:
                    module, _, path = name.partition(":")
                    *owner, attribute = path.split(".")
                    target = importlib.import_module(module)
                    for step in owner:
                        target = getattr(target, step)
                    timed = self.timed(part, getattr(target, attribute))
                    patches.enter_context(patch.object(target, attribute, timed))
            yield


def time_parts(folder: Path, out: Path, count: int, settings: GroupingSettings) -> dict[str, Any]:
    """Seconds per image of each part and in all, here, in one thread; one image before loads the model.

    processor: seconds that the processor worked; on a machine that others use, less than the total."""
    samples, clock = open_folder([folder]).subset(range(count)), Clock()
    group_images(samples.subset([0]), out / "first", settings, edges=True)
    with clock.running(), one_thread():
        started, processor = time.perf_counter(), time.process_time()
        failures = group_images(samples, out, settings, edges=True)
        total, processor = time.perf_counter() - started, time.process_time() - processor
        assert not failures, failures
        trees = [RegionTree.load(tree_path(out, name)) for name in samples.names]
        total += sum(seconds_of(tree.distances) for tree in trees)
    return {
        "parts": {part: seconds / count for part, seconds in clock.seconds.items()},
        "total": total / count,
        "processor": processor / count,
    }


def time_rivals(folder: Path, count: int, exact: int) -> dict[str, Any]:
    """The naive reference, exact eigenvectors at full size, on `exact` images; scikit-image's felzenszwalb on
    `count`."""
    from skimage.segmentation import felzenszwalb

    samples, naive = open_folder([folder]), PRESETS["best"].model_copy(update={"spectral_exact": True})
    images = [samples.image(k) for k in range(max(count, exact))]
    with one_thread():
        clock = Clock()
        with clock.running():
            photographs = bar(images[:exact], desc="exact eigenvectors")
            whole = [seconds_of(lambda image=image: region_tree(image, naive)) for image in photographs]
        options = {"scale": 100, "sigma": 0.8, "min_size": 100}
        rival = [seconds_of(lambda image=image: felzenszwalb(image, **options)) for image in images[:count]]
    spectral = clock.seconds["spectral"] / exact
    return {
        "naive": {"images": exact, "spectral": spectral, "total": float(np.mean(whole))},
        "felzenszwalb": {"images": count, "total": float(np.mean(rival))},
    }


def time_workers(folder: Path, out: Path, workers: int, settings: GroupingSettings) -> dict[str, float]:
    """A whole run in a process of its own: seconds with and without its start, images per second, and the
    most memory of one worker."""
    arguments = [str(folder), str(out), str(workers), settings.model_dump_json()]
    command = [sys.executable, "-c", TIMED_RUN, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as run:
        peak = most_memory(run)
        seconds = float(run.communicate()[0])
    assert run.returncode == 0, "the run failed"
    ends = sorted(path.stat().st_mtime for path in out.rglob("*.npz"))
    return {
        "seconds": seconds,
        "images_a_second": (len(ends) - workers) / (ends[-1] - ends[0]),
        "worker_mb": peak / 1e6,
    }


def most_memory(run: subprocess.Popen) -> int:
    """The largest resident set, in bytes, that any one process of a run has at any time."""
    peak, root = 0, psutil.Process(run.pid)
    while run.poll() is None:
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                peak = max(peak, process.memory_info().rss)
        time.sleep(0.1)
    return peak


def measure_files(folder: Path, out: Path, count: int, settings: GroupingSettings) -> dict[str, float]:
    """Bytes of a saved tree of 500x375 and milliseconds to load it (median of 20 loads, file cache warm)."""
    samples, sizes, loads, edge_sizes = open_folder([folder]), [], [], []
    for k in bar(range(count), desc="files"):
        image = samples.image(k)
        image = np.ascontiguousarray(np.rot90(image)) if image.shape[0] > image.shape[1] else image
        edge_map, tree = region_tree(cv2.resize(image, TREE_SIZE, interpolation=cv2.INTER_CUBIC), settings)
        path = out / f"{k}.npz"
        tree.save(path)
        save_edge_map(path.with_suffix(".png"), edge_map)
        sizes.append(path.stat().st_size)
        edge_sizes.append(path.with_suffix(".png").stat().st_size)
        loads.append(np.median([seconds_of(lambda path=path: RegionTree.load(path)) for _ in range(20)]))
    return {
        "tree_bytes": float(np.mean(sizes)),
        "tree_bytes_most": float(np.max(sizes)),
        "load_ms": 1000 * float(np.median(loads)),
        "load_ms_most": 1000 * float(np.max(loads)),
        "edge_map_bytes": float(np.mean(edge_sizes)),
    }


def costs(seconds: dict[str, float], files: dict[str, float]) -> dict[str, dict[str, float]]:
    """Core-hours per preset, and bytes of the trees, for many images of 500x375: as the pixels grow."""
    larger = TREE_SIZE[0] * TREE_SIZE[1] / (SIZE[0] * SIZE[1])
    return {
        name: {
            "images": count,
            **{f"core_hours_{preset}": count * value * larger / 3600 for preset, value in seconds.items()},
            "tree_bytes": count * files["tree_bytes"],
        }
        for name, count in MANY.items()
    }


def show(result: dict[str, Any]) -> None:
    print(f"\nOne core, 481x321, mean of {result['images']} images")
    for preset, found in result["presets"].items():
        total, processor = f"{found['total']:.3f} s", f"{found['processor']:.3f} s"
        target = f"(target: {TARGETS[preset]} s)"
        print(f"{preset}: {total} per image in all, {processor} of processor {target}")
        rest = found["total"] - sum(found["parts"].values())
        for part, seconds in {**found["parts"], "rest": rest}.items():
            print(f"    {part:10} {1000 * seconds:8.1f} ms {100 * seconds / found['total']:6.1f} %")
    naive, rival = result["rivals"]["naive"], result["rivals"]["felzenszwalb"]
    seconds = (
        f"{naive['total']:.2f} s, of which spectral {naive['spectral']:.2f} s ({naive['images']} images)"
    )
    print(f"best with exact eigenvectors of the whole image: {seconds}")
    print(f"scikit-image's felzenszwalb: {rival['total']:.3f} s")
    _show_workers(result["workers"])
    files = result["files"]
    most = f"at most {files['tree_bytes_most']:.0f} (target: 12000)"
    print(f"\nA tree of 500x375: {files['tree_bytes']:.0f} bytes, {most}")
    print(f"Loading one: {files['load_ms']:.2f} ms, at most {files['load_ms_most']:.2f} (target: 2)")
    print(f"An edge map, where asked for: {files['edge_map_bytes']:.0f} bytes")
    print("\nAt 500x375, from the figures above:")
    for name, cost in result["costs"].items():
        hours = ", ".join(f"{cost[f'core_hours_{preset}']:,.0f} core-hours {preset}" for preset in PRESETS)
        size = f"trees {cost['tree_bytes'] / 1e9:,.2f} GB"
        print(f"    {name:12} {cost['images']:>13,} images: {hours}; {size}")


def _show_workers(scaling: dict[str, Any]) -> None:
    what = f"{scaling['images']} images, preset {scaling['preset']}"
    print(f"\nWorkers: {what}, whole runs through group_images")
    for count in ("1", "2"):
        found = scaling[count]
        rate = f"{found['images_a_second']:.2f} images/s once started"
        memory = f"{found['worker_mb']:.0f} MB the largest process"
        print(f"    {count}: {found['seconds']:7.1f} s, {rate}, {memory}")
    whole = f"{scaling['speedup_whole']:.2f} with start (target: 1.8)"
    print(f"    2 over 1: {scaling['speedup']:.2f} once started, {whole}")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--images", type=int, default=20, help="for the parts and the files; default: 20")
    options.add_argument("--exact", type=int, default=1, help="for the naive reference; default: 1")
    options.add_argument("--scaling", type=int, default=100, help="for two workers against one; default: 100")
    options.add_argument(
        "--preset",
        choices=PRESETS,
        default="fast",
        help="for two workers against one; default: fast, the harder",
    )
    options.add_argument("--out", type=Path, help="write the figures there as JSON")
    options = options.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        result = measure(options, Path(name))
    result["machine"] = machine(started)
    show(result)
    if options.out:
        write_json(options.out, result)


def measure(options: argparse.Namespace, home: Path) -> dict[str, Any]:
    photos, scaling = home / "photos", home / "scaling"
    for folder, count in ((photos, max(options.images, options.exact)), (scaling, options.scaling)):
        folder.mkdir()
        fill(folder, count)
    presets = {
        name: time_parts(photos, home / name, options.images, settings) for name, settings in PRESETS.items()
    }
    rivals = time_rivals(photos, options.images, options.exact)
    runs = {
        str(count): time_workers(scaling, home / f"workers{count}", count, PRESETS[options.preset])
        for count in (1, 2)
    }
    with one_thread():
        files = measure_files(photos, home, options.images, PRESETS["best"])
    return {
        "images": options.images,
        "photographs": "BSDS500 val" if "HGRL_DATA" in os.environ else "scikit-image",
        "presets": presets,
        "rivals": rivals,
        "workers": {
            **runs,
            "images": options.scaling,
            "preset": options.preset,
            "speedup": runs["2"]["images_a_second"] / runs["1"]["images_a_second"],
            "speedup_whole": runs["1"]["seconds"] / runs["2"]["seconds"],
        },
        "files": files,
        "costs": costs({name: found["total"] for name, found in presets.items()}, files),
    }


if __name__ == "__main__":
    main()
