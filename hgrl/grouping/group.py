"""Images to region trees: one image, or a data set with several processes; and the scale of the trees'
heights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from hgrl.core import files as store
from hgrl.core.errors import InputError
from hgrl.core.progress import bar
from hgrl.core.settings import GroupingSettings
from hgrl.data.samples import Samples
from hgrl.grouping.edges import EdgeNetwork, detect_edges
from hgrl.grouping.hierarchy import Arcs, build_hierarchy, build_tree, watershed_arcs
from hgrl.grouping.merge_tree import MergeTree
from hgrl.grouping.region_tree import RegionTree
from hgrl.grouping.spectral.mix import add_spectral
from hgrl.grouping.workers import run_here, run_in_processes

EDGE_LEVELS = 65535  # edge maps are kept as 16-bit PNG


@dataclass(frozen=True)
class Task:
    """One image to group, and where the results go."""

    sample: Samples  # of one image
    trees_dir: Path
    edges_dir: Path | None
    settings: GroupingSettings
    short_side: int | None
    network: EdgeNetwork | None = None

    @property
    def name(self) -> str:
        return self.sample.names[0]

    def is_done(self) -> bool:
        return _is_done(self.name, self.trees_dir, self.edges_dir)


def region_tree(
    image: np.ndarray, settings: GroupingSettings, network: EdgeNetwork | None = None
) -> tuple[np.ndarray, RegionTree]:
    """Edge map (H, W) float32 in [0, 1] and region tree of an image (H, W, 3) uint8 RGB. Paper, section 4.1.

    Structured edges (with `edges: hed`, those of `network`), a watershed, the spectral signal added to its
    arcs, average linkage, at most `max_regions` leaves.
    """
    edge_map = detect_edges(image, settings, network)
    return edge_map, build_tree(contour_arcs(edge_map, settings), settings)


def full_hierarchy(
    image: np.ndarray, settings: GroupingSettings, network: EdgeNetwork | None = None
) -> MergeTree:
    """The uncut hierarchy of an image (H, W, 3) uint8 RGB, or of an edge map (H, W) float in [0, 1]: what
    boundary benchmarks score.

    As `region_tree`, but regions under `ucm_min_area` are merged instead of `min_area`, and there is no cut
    to `max_regions`.
    """
    is_edge_map = image.ndim == 2 and np.issubdtype(image.dtype, np.floating)
    edge_map = image if is_edge_map else detect_edges(image, settings, network)
    return build_hierarchy(contour_arcs(edge_map, settings), settings.ucm_min_area, settings.arc_weight)


def contour_arcs(edge_map: np.ndarray, settings: GroupingSettings) -> Arcs:
    """Watershed regions of an edge map (H, W) in [0, 1], and their arcs with the spectral signal where
    `spectral` says so.
    """
    arcs = watershed_arcs(edge_map, settings.arc_strength)
    return add_spectral(arcs, settings) if settings.spectral and arcs.regions > 1 else arcs


def group_images(
    samples: Samples,
    trees_dir: Path,
    edges_dir: Path | None,
    settings: GroupingSettings,
    workers: int = 1,
    short_side: int | None = None,
    scheduler: str | None = None,
    network: EdgeNetwork | None = None,
) -> dict[str, str]:
    """Write `trees_dir/<name>.npz`, and `edges_dir/<name>.png` (16-bit) unless None, for every sample that
    has none yet.

    `workers` processes of one thread each; with 1, all runs here, in one thread. scheduler: the address of a
    Dask scheduler whose workers do it instead; see `hgrl.grouping.cluster`. An image that cannot be grouped
    does not stop the others: the answer maps its name to what is wrong. Each image is read once, by the
    worker that groups it. Writing is atomic, so an interrupted run goes on where it stopped. A full disk
    stops all (InputError), and so does a killed process.
    """
    trees_dir, edges_dir = Path(trees_dir), None if edges_dir is None else Path(edges_dir)
    if scheduler is not None:  # workers have other working directories
        samples = dataclasses.replace(samples, images=tuple(path.absolute() for path in samples.images))
        trees_dir, edges_dir = trees_dir.absolute(), edges_dir and edges_dir.absolute()
    waiting = [k for k, name in enumerate(samples.names) if not _is_done(name, trees_dir, edges_dir)]
    tasks = (Task(samples.subset([k]), trees_dir, edges_dir, settings, short_side, network) for k in waiting)
    failures = {}
    with bar(desc="grouping", total=len(samples), initial=len(samples) - len(waiting)) as progress:
        for name, problem in _results(
            tasks, min(workers, len(waiting)), scheduler if waiting else None, trees_dir
        ):
            progress.update()
            if problem is not None:
                failures[name] = problem
    return {name: failures[name] for name in samples.names if name in failures}


def _results(
    tasks: Iterator[Task], workers: int, scheduler: str | None, trees_dir: Path
) -> Iterator[tuple[str, str | None]]:
    """`_group_one` of each task, where it is to run."""
    if scheduler is not None:
        from hgrl.grouping.cluster import run_on_cluster  # here, for Dask takes half a second to import

        return run_on_cluster(_group_one, tasks, scheduler, trees_dir)
    return run_here(_group_one, tasks) if workers <= 1 else run_in_processes(_group_one, tasks, workers)


def tree_path(trees_dir: Path, name: str) -> Path:
    return Path(trees_dir) / f"{name}.npz"


def edge_map_path(edges_dir: Path, name: str) -> Path:
    return Path(edges_dir) / f"{name}.png"


def save_edge_map(path: Path, edge_map: np.ndarray) -> None:
    """An edge map (H, W) in [0, 1] as a 16-bit grey PNG, atomically."""
    levels = np.rint(edge_map * EDGE_LEVELS).astype(np.uint16)
    store.write_bytes(path, cv2.imencode(".png", levels)[1].tobytes())


def load_edge_map(path: Path) -> np.ndarray:
    """What `save_edge_map` wrote: (H, W) float32 in [0, 1]. Raises InputError when it is missing or something
    else.
    """
    levels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if Path(path).is_file() else None
    if levels is None or levels.dtype != np.uint16 or levels.ndim != 2:
        raise InputError(
            f"{path}: no edge map (16-bit grey PNG) there; delete it and run `python -m hgrl group` again"
        )
    return levels.astype(np.float32) / EDGE_LEVELS


def height_scale(trees: Iterable[RegionTree], sigma_p: float, target: float) -> float:
    """The one factor s on heights that brings the median P(self) over all regions of the trees to `target`.

    P(self) = 1 / (1 + the sum over the image's other regions m of exp(-s d_T(a, m) / sigma_p)): equation 2
    with d_T(a, a) = 0. The paper leaves the unit of d_T open; this is measured on the training trees, not
    tuned on scores. Trees of one region have no say.
    Where even an endless factor cannot reach the target (regions at distance 0 of each other), the largest
    tried, 1e6, is given.
    """
    distances = [tree.distances().astype(np.float64) for tree in trees if tree.regions > 1]
    if not distances:
        raise InputError(
            "no image has more than one region: the height scale cannot be measured; lower grouping.min_area"
        )
    low, high = 1e-6, 1e6
    while high / low > 1 + 1e-6:  # the median rises with the factor
        middle = float(np.sqrt(low * high))
        if _median_self(distances, middle / sigma_p) < target:
            low = middle
        else:
            high = middle
    return high


def _median_self(distances: list[np.ndarray], factor: float) -> float:
    return float(
        np.median(np.concatenate([1 / np.exp(-factor * matrix).sum(axis=1) for matrix in distances]))
    )


def _is_done(name: str, trees_dir: Path, edges_dir: Path | None) -> bool:
    return tree_path(trees_dir, name).exists() and (
        edges_dir is None or edge_map_path(edges_dir, name).exists()
    )


def _group_one(task: Task) -> tuple[str, str | None]:
    """Group one image and write the results; (name, None) or (name, what is wrong)."""
    if task.is_done():  # by a worker that died before it could say so
        return task.name, None
    try:
        edge_map, tree = region_tree(task.sample.image(0, task.short_side), task.settings, task.network)
    except InputError as error:
        return task.name, str(error)
    except Exception as error:  # one odd image must not cost the others hours
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return task.name, f"{task.sample.images[0]}: cannot be grouped ({reason}); remove it or report it"
    if task.edges_dir is not None:
        save_edge_map(edge_map_path(task.edges_dir, task.name), edge_map)
    tree.save(tree_path(task.trees_dir, task.name))
    return task.name, None
