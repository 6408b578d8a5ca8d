"""Segment retrieval (section 5.2): K-means segments, mean descriptors, neighbours from another split."""

from dataclasses import dataclass
from multiprocessing import parent_process
from typing import Any

import cv2
import faiss
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hgrl.core import progress
from hgrl.core.errors import InputError
from hgrl.core.experiment import Experiment, Run
from hgrl.core.labels import VOID
from hgrl.core.settings import RetrievalSettings
from hgrl.data.samples import Samples
from hgrl.data.sources import open_labelled
from hgrl.evaluation.features import BASELINES, FeatureFunction, equal_sized, single_layer
from hgrl.evaluation.networks import layers_of, load_features
from hgrl.metrics.segmentation import confusion_matrix, segmentation_scores

EMBEDDED_AT_ONCE = 32  # images of one size
QUERIES, GALLERY = 256, 4096  # segments compared at once: 4 MB of similarities, which fit a cache


def score_run(experiment: Experiment, run: Run, seed: int, labelled: str) -> dict[str, dict[str, Any]]:
    """{layer: scores of `retrieve`} on a labelled set, for the listed layers that the run trained; a baseline
    has one."""
    own = run.settings.retrieval
    train, val = open_labelled(run.settings.data.labelled[labelled], experiment.data_root)
    features, known = load_features(experiment, run, seed), layers_of(run)
    layers = ["embedding"] if run.method in BASELINES else [layer for layer in own.layers if layer in known]
    return {layer: retrieve(train, val, single_layer(features, layer), own, seed) for layer in layers}


@dataclass(frozen=True)
class Segments:
    """The segments of a split, images in order."""

    maps: tuple[np.ndarray, ...]  # (h, w) uint8 segment ids 0 .. n-1 on the feature grid
    descriptors: np.ndarray  # (S, C) float32 of length 1
    image: np.ndarray  # (S,) int64: the segment's image
    segment: np.ndarray  # (S,) int64: its id in that image's map


def segment_image(features: Tensor, k: int, seed: int, iterations: int = 20) -> np.ndarray:
    """K-means of one image's cells by faiss: (C, h, w) float -> (h, w) uint8 ids 0 .. n-1, n <= k <= 255.

    Cells are normalised to length 1; the centres start by k-means++ and are not renormalised. Above 256 cells
    per cluster, faiss finds them on a sample that `seed` draws. Not done: restarts; coordinates."""
    channels, h, w = features.shape
    cells = np.ascontiguousarray(F.normalize(features.float(), dim=0).flatten(1).T.cpu().numpy())
    options = {"niter": iterations, "seed": seed, "min_points_per_centroid": 1}
    options["init_method"] = faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS
    kmeans = faiss.Kmeans(channels, min(k, h * w), **options)
    kmeans.train(cells)
    _, labels = kmeans.assign(cells)
    return np.unique(labels, return_inverse=True)[1].reshape(h, w).astype(np.uint8)


def describe(features: Tensor, segments: np.ndarray) -> np.ndarray:
    """The normalised mean of each segment's unit features: (C, h, w) and (h, w) ids -> (n, C) float32."""
    cells = F.normalize(features.float(), dim=0).flatten(1)  # C, N
    ids = torch.from_numpy(segments.reshape(-1).astype(np.int64)).to(cells.device)
    one_hot = F.one_hot(ids).to(cells.dtype)  # N, n
    return F.normalize((cells @ one_hot / one_hot.sum(0)).T, dim=1).cpu().numpy()


def find_segments(split: Samples, embed: FeatureFunction, settings: RetrievalSettings, seed: int) -> Segments:
    """Segments and descriptors of every image of a split. Features live only as long as their batch."""
    faiss.omp_set_num_threads(torch.get_num_threads())  # its own: several evaluations may run side by side
    maps, descriptors = [], []
    images = ((split.image(index, settings.short_side),) for index in range(len(split)))
    grids = (grid for (batch,) in equal_sized(images, EMBEDDED_AT_ONCE) for grid in embed(batch))
    hidden = parent_process() is not None  # in a worker process the stage's own bar speaks
    for grid in progress.bar(grids, "segments", len(split), leave=False, delay=5, disable=hidden):
        maps.append(segment_image(grid, settings.segments, seed, settings.kmeans_iterations))
        descriptors.append(describe(grid, maps[-1]))
    image = np.concatenate([np.full(len(rows), number) for number, rows in enumerate(descriptors)])
    segment = np.concatenate([np.arange(len(rows)) for rows in descriptors])
    return Segments(tuple(maps), np.concatenate(descriptors), image, segment)


def enlarge(grid: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A label grid (h, w) at the size `shape` = (H, W), by nearest neighbour."""
    return cv2.resize(grid, shape[::-1], interpolation=cv2.INTER_NEAREST)


def majority_classes(segments: Segments, samples: Samples) -> np.ndarray:
    """(S,) int64 commonest class under each segment at the mask's resolution; 255 where all is void.

    Void pixels do not vote; ties go to the lower class id."""
    classes, winners = len(samples.classes), []
    for i, grid in enumerate(segments.maps):
        mask = samples.mask(i)
        scored = mask != VOID
        pairs = enlarge(grid, mask.shape)[scored].astype(np.int64) * classes + mask[scored]
        votes = np.bincount(pairs, minlength=(int(grid.max()) + 1) * classes).reshape(-1, classes)
        winners.append(np.where(votes.sum(1) > 0, votes.argmax(1), VOID))
    return np.concatenate(winners)


def nearest_segments(queries: np.ndarray, gallery: np.ndarray, k: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """The descriptors (G, C) of a gallery most similar to each query's (R, C), float32, by inner product.

    Returns the k nearest gallery rows (R, k) int64 and their cosines (R, k) float32, most similar first;
    -1 and -inf where the gallery is smaller. Four times as fast on a CPU as faiss's flat index."""
    asked, offered = torch.from_numpy(np.ascontiguousarray(queries)), torch.from_numpy(gallery)
    nearest = [_nearest(block, offered, k) for block in asked.split(QUERIES)]
    return tuple(torch.cat(parts).numpy() for parts in zip(*nearest, strict=True))


def _nearest(queries: Tensor, gallery: Tensor, neighbours: int) -> tuple[Tensor, Tensor]:
    """(Q, neighbours) rows and inner products: each block of the gallery against the best before it."""
    cosines = queries.new_full((len(queries), neighbours), -torch.inf)
    found, start = torch.full(cosines.shape, -1), 0
    for block in gallery.split(GALLERY):
        similarity = queries @ block.T
        better = (similarity.amax(1) > cosines[:, -1]).nonzero().flatten()  # soon few: ranking all costs more
        values, index = similarity[better].topk(min(neighbours, len(block)))
        ids = torch.cat([found[better], start + index], 1)
        ranked, order = torch.cat([cosines[better], values], 1).sort(dim=1, descending=True, stable=True)
        cosines[better], found[better] = ranked[:, :neighbours], ids.gather(1, order[:, :neighbours])
        start += len(block)
    return found, cosines


def distinct_images(found: np.ndarray, gallery: Segments, count: int) -> list[int]:
    """The first `count` rows of a ranking that lie in different images."""
    _, first = np.unique(gallery.image[found], return_index=True)
    return [int(found[rank]) for rank in np.sort(first)[:count]]


def retrieve(
    train: Samples, val: Samples, feature_fn: FeatureFunction, settings: RetrievalSettings, seed: int
) -> dict[str, Any]:
    """Table 2's score: every val segment takes the majority class of its nearest train segment.

    Returns `segmentation_scores` over val at the masks' own resolution; void does not count, and train
    segments that are all void are not searched. Raises InputError where all of them are."""
    gallery, queries = (find_segments(samples, feature_fn, settings, seed) for samples in (train, val))
    labels = majority_classes(gallery, train)
    known = labels != VOID
    if not known.any():
        raise InputError("setting 'data.labelled': the train masks are all void; name a split with labels")
    nearest, _ = nearest_segments(queries.descriptors, gallery.descriptors[known])
    return score_labels(queries, labels[known][nearest[:, 0]], val)


def score_labels(segments: Segments, labels: np.ndarray, samples: Samples) -> dict[str, Any]:
    """Scores of a split whose segments carry the classes `labels` (S,)."""
    confusion = np.zeros((len(samples.classes),) * 2, np.int64)
    starts = np.searchsorted(segments.image, np.arange(len(segments.maps)))
    for i, grid in enumerate(segments.maps):
        mask = samples.mask(i)
        predicted = labels[starts[i] + enlarge(grid, mask.shape).astype(np.int64)]
        confusion += confusion_matrix(mask, predicted, len(samples.classes))
    return segmentation_scores(confusion, samples.classes)
