"""What the package's hot paths cost against what a user would write or pick instead, as ratios of one run.

    python benchmarks/run.py              # these and the others: benchmarks/results.json and results.md

Below 1 the package is faster, or smaller. Every pair must give the same answer first, where there is one.
Both sides have one thread, and take turns: times are medians. Tracking's two sides run in processes of their
own, so that the memory of each can be read.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from figures import figure, seconds_of, threads
from memory import forget_peak, peak_mib
from photographs import SIZE, skimage_files

from hgrl.core.loading import grouping_preset
from hgrl.core.settings import Propagation, SamplingSettings, TrackingSettings
from hgrl.data.sets.folder import open_folder
from hgrl.evaluation.retrieval import nearest_segments
from hgrl.evaluation.trackers.propagation import Context, _weights, lift, one_hot, propagate, reach, vote
from hgrl.grouping.group import group_images, region_tree
from hgrl.grouping.outputs import tree_path
from hgrl.grouping.region_tree import RegionTree
from hgrl.sampling.pixels import negative_probability, positive_probability, sample_pixels

# 480p in cells of stride 8, and the context frames of the two columns
GRIDS = {"paper": ((60, 107), 2), "field": ((60, 107), 21)}
CHANNELS, OBJECTS = 32, 3
SEQUENCE, SIZE_480P, RES4 = 70, (480, 854), 256  # frames; pixels; channels of ResNet-18's Res4
GALLERY, QUERIES = 1_000_000, 1_000
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")


def in_turns(*actions: Callable[[], Any], rounds: int) -> tuple[list[float], list[Any]]:
    """Median seconds of each action, and its last answer; they take turns, so that other work on the machine
    meets all alike."""
    times, answers = [[] for _ in actions], [None] * len(actions)
    for _ in range(rounds):
        for number, action in enumerate(actions):
            started = time.perf_counter()
            answers[number] = action()
            times[number].append(time.perf_counter() - started)
    return [float(np.median(found)) for found in times], answers


# --- tracking: one frame's vote


def frames(column: str, channels: int = CHANNELS) -> tuple[torch.Tensor, list[Context], Propagation]:
    """A frame's queries and its context, of random features."""
    (h, w), count = GRIDS[column]
    how = getattr(TrackingSettings(), column)
    generator = torch.Generator().manual_seed(0)
    context = []
    for number in range(count + 1):
        queries, keys = lift(torch.randn(channels, h, w, generator=generator), how.coordinate_weight)
        shares = torch.rand(h, w, OBJECTS, generator=generator)
        everywhere = how.radius is None or (how.first_frame and number == 0)
        context.append(Context(keys, shares, everywhere))
    return queries, context[:count], how


def dense_vote(queries: torch.Tensor, context: list[Context], how: Propagation) -> torch.Tensor:
    """The straightforward way: the whole affinity of the frame with each context frame, masked, then the k
    largest of each row."""
    h, w, channels = queries.shape
    y, x = (grid.flatten() for grid in torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij"))
    far = (y[:, None] - y) ** 2 + (x[:, None] - x) ** 2 >= reach(how, h, w) ** 2
    affinities = []
    for frame in context:
        affinity = queries.reshape(-1, channels) @ frame.keys.reshape(-1, channels).T
        affinities.append(affinity if frame.anywhere else affinity.masked_fill(far, -torch.inf))
    nearest, index = torch.cat(affinities, 1).topk(how.neighbours)
    labels = torch.cat([frame.labels.flatten(0, 1) for frame in context])
    return (_weights(nearest, how)[..., None] * labels[index]).sum(1).view(h, w, -1)


def one_side(column: str, side: str, out: Path) -> None:
    """In a process of its own: seconds and additional memory of one frame, and its answer; side "sequence":
    seconds a frame of a whole sequence, of as many channels as a backbone has. Processor's seconds: other
    work on the machine does not count."""
    with threads(1):
        made = frames(column, RES4 if side.startswith("sequence") else CHANNELS)
        before = forget_peak()
        started = time.process_time()
        if side == "sequence":
            answer = np.stack(propagate(random_grids(), random_mask(), made[2])[-1:])
        else:
            answer = (vote if side == "ours" else dense_vote)(*made).numpy()
        seconds = (time.process_time() - started) / (SEQUENCE - 1 if side == "sequence" else 1)
    print(json.dumps({"seconds": seconds, "mib": peak_mib() - before}))
    np.save(out, answer)


def random_grids() -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(RES4, *GRIDS["field"][0], generator=generator) for _ in range(SEQUENCE))


def random_mask() -> np.ndarray:
    return one_hot(np.random.default_rng(0).integers(0, OBJECTS + 1, SIZE_480P).astype(np.uint8))


def timed_side(column: str, side: str, out: Path) -> dict[str, float]:
    command = [sys.executable, __file__, column, side, str(out)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def sequence(home: Path, rounds: int) -> dict[str, Any]:
    """Label propagation through a whole sequence by column `field`, against the dense affinity of one frame
    that has all its context frames, as those after the twentieth have."""
    ours, dense = (timed_side("field", side, home / "out.npy") for side in ("sequence", "sequence-dense"))
    (h, w), count = GRIDS["field"]
    what = f"dense affinity of one frame, {h}x{w} cells of {RES4} channels (480p), {count} context frames"
    peer = f"{what}, one thread: {dense['seconds']:.2f} s, {dense['mib']:.0f} MiB"
    seconds = figure(ours["seconds"], "s", peer, SEQUENCE - 1)
    return {
        "tracking.sequence_seconds_per_frame": seconds,
        "tracking.sequence_memory_mib": figure(ours["mib"], "MiB", peer, 1),
    }


def tracking(home: Path, rounds: int) -> dict[str, Any]:
    figures = {}
    for column, ((h, w), count) in GRIDS.items():
        runs = {"ours": [], "dense": []}
        for _ in range(rounds):
            for side, found in runs.items():
                found.append(timed_side(column, side, home / f"{side}.npy"))
        same = np.isclose(np.load(home / "ours.npy"), np.load(home / "dense.npy"), atol=1e-4).all(-1)
        assert same.mean() > 0.999, same.mean()  # two neighbours may tie within float32's rounding
        medians = {
            side: {key: float(np.median([run[key] for run in found])) for key in ("seconds", "mib")}
            for side, found in runs.items()
        }
        ours, dense = medians["ours"], medians["dense"]
        suffix = "" if column == "paper" else "_field"
        what = f"dense affinity, {h}x{w} cells (480p), {count} context frames, one thread"
        peer = f"{what}: {dense['seconds']:.2f} s, {dense['mib']:.0f} MiB"
        for name, key in (("time", "seconds"), ("memory", "mib")):
            ratio = figure(ours[key] / dense[key], "ratio", peer, rounds)
            figures[f"tracking.{name}_ratio_to_dense{suffix}"] = ratio
    return figures


# --- retrieval, sampler, trees


def retrieval(home: Path, rounds: int) -> dict[str, Any]:
    from sklearn.neighbors import NearestNeighbors

    random = np.random.default_rng(0)
    descriptors = random.standard_normal((GALLERY, CHANNELS)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    asked = descriptors[:QUERIES] + 0.1 * random.standard_normal((QUERIES, CHANNELS)).astype(np.float32)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    peer = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(descriptors)
    with threads(1):
        (ours, theirs), (found, same) = in_turns(
            lambda: nearest_segments(asked, descriptors)[0][:, 0],
            lambda: peer.kneighbors(asked, return_distance=False)[:, 0],
            rounds=rounds,
        )
    assert (found == same).mean() > 0.999  # ties of float32 apart
    name = f"scikit-learn's brute force, {GALLERY:,} descriptors, one thread: {theirs:.2f} s"
    return {"retrieval.time_ratio_to_sklearn": figure(ours / theirs, "ratio", name, QUERIES)}


def sampler(home: Path, rounds: int) -> dict[str, Any]:
    """The paper's batch: 70 images of 56x56 cells and 40 regions."""
    settings, images, cells, regions = SamplingSettings(), 70, 56, 40
    generator = torch.Generator().manual_seed(0)
    bands = (torch.arange(cells * cells) * regions // cells**2).view(cells, cells)
    labels = bands.expand(2, images, cells, cells).contiguous()
    distances = torch.rand(images, regions, regions, generator=generator)
    distances = torch.maximum(distances, distances.mT)
    with threads(1):
        (ours, theirs), _ = in_turns(
            lambda: sample_pixels(labels, distances, settings, 5, generator),
            lambda: loop_sampler(labels.numpy(), distances, settings, 5),
            rounds=3 * rounds,
        )
    name = f"a Python loop over images and anchors, one thread: {theirs:.2f} s"
    return {"sampler.time_ratio_to_loop": figure(ours / theirs, "ratio", name, images)}


def loop_sampler(
    labels: np.ndarray, distances: torch.Tensor, settings: SamplingSettings, cns: int
) -> list[np.ndarray]:
    """What one would write first: for each image and anchor, regions drawn by equations 2 and 3, then a pixel
    of each."""
    random, drawn = np.random.default_rng(0), []
    views, images = labels.shape[:2]
    everywhere = torch.ones(distances.shape[1], dtype=torch.bool)
    for image in range(images):
        positive = positive_probability(distances[image], settings.sigma_p, everywhere).double().numpy()
        negative = negative_probability(distances[image], settings.sigma_p, everywhere).double().numpy()
        for region in random.permutation(len(positive))[: settings.anchors]:
            for view in range(views):
                flat = labels[view, image].ravel()
                for probability, count in (
                    (positive[region], settings.positives),
                    (negative[region], settings.negatives),
                ):
                    for chosen in random.choice(len(probability), count, p=probability / probability.sum()):
                        drawn.append(random.choice(np.flatnonzero(flat == chosen)))
            others = np.delete(np.arange(images), image)
            drawn += [(other, random.integers(labels[0, other].size)) for other in random.choice(others, cns)]
    return drawn


def trees(home: Path, rounds: int) -> dict[str, Any]:
    settings = grouping_preset("fast")
    samples = open_folder(skimage_files(PHOTOGRAPHS))
    with threads(1):
        group_images(samples, home / "trees", settings)
        files = [tree_path(home / "trees", name) for name in samples.names]
        images = [
            cv2.resize(samples.image(k), SIZE, interpolation=cv2.INTER_AREA) for k in range(len(samples))
        ]
        loaded = np.median([seconds_of(lambda file=file: RegionTree.load(file), 20) for file in files])
        grow = [lambda image=image: region_tree(image, settings) for image in images]
        made = np.mean([np.median([seconds_of(action) for _ in range(rounds)]) for action in grow])
    name = f"growing it again, preset fast: {made:.2f} s a photograph"
    speed = "preset fast, one core, 481x321"
    return {
        "tree.load_ms": figure(1000 * loaded, "ms", name, len(files)),
        "grouping.seconds_per_image": figure(made, "s", speed, len(files)),
    }


if __name__ == "__main__":
    one_side(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
