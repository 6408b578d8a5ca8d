"""Images to region trees: one image, or a data set in several processes; and the scale of their heights."""

import dataclasses
import errno
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hgrl.core.cache import code_fingerprint, fingerprint
from hgrl.core.errors import InputError
from hgrl.core.processes import as_completed
from hgrl.core.progress import bar
from hgrl.core.settings import GroupingSettings
from hgrl.data.samples import Samples
from hgrl.grouping.edges import MODEL, PIDINET, EdgeNetwork, detect_edges, detect_edges_of, edge_network
from hgrl.grouping.hierarchy import Arcs, build_hierarchy, build_tree, watershed_arcs
from hgrl.grouping.merge_tree import MergeTree
from hgrl.grouping.outputs import edge_map_path, is_done, make_way, save_edge_map, tree_path
from hgrl.grouping.region_tree import RegionTree
from hgrl.grouping.spectral.mix import add_spectral

BATCH = 16  # images of one size that a network on a GPU looks at together
MOST_WAITING = 256  # images kept until there are enough of their size


def region_tree(
    image: np.ndarray, settings: GroupingSettings, network: EdgeNetwork | None = None
) -> tuple[np.ndarray, RegionTree]:
    """Edge map (H, W) float32 in [0, 1] and region tree of an image (H, W, 3) uint8 RGB. Paper, section 4.1.

    Structured edges (with `edges: hed` or `pidinet`, those of `network`), a watershed, the spectral signal
    added to its arcs, average linkage, at most `max_regions` leaves."""
    edge_map = detect_edges(image, settings, network)
    return edge_map, build_tree(contour_arcs(edge_map, settings), settings)


def full_hierarchy(
    image: np.ndarray, settings: GroupingSettings, network: EdgeNetwork | None = None
) -> MergeTree:
    """The uncut hierarchy of an image (H, W, 3) uint8 RGB or an edge map (H, W) float in [0, 1].

    As `region_tree`, but regions under `ucm_min_area` are merged instead of `min_area`, without the cut."""
    is_edge_map = image.ndim == 2 and np.issubdtype(image.dtype, np.floating)
    edge_map = image if is_edge_map else detect_edges(image, settings, network)
    return build_hierarchy(contour_arcs(edge_map, settings), settings.ucm_min_area, settings.arc_weight)


def contour_arcs(edge_map: np.ndarray, settings: GroupingSettings) -> Arcs:
    """Watershed regions of an edge map (H, W) in [0, 1] and their arcs, with `spectral` its signal added."""
    arcs = watershed_arcs(edge_map, settings.arc_strength)
    return add_spectral(arcs, settings) if settings.spectral and arcs.regions > 1 else arcs


@dataclass(frozen=True)
class Task:
    """One image to group, and where the results go."""

    sample: Samples  # of one image
    folder: Path
    settings: GroupingSettings
    network: EdgeNetwork | None
    edges: bool
    recipe: str
    edge_map: np.ndarray | None = None  # if it is there already

    @property
    def name(self) -> str:
        return self.sample.names[0]

    def files(self) -> tuple[str, list[Path], bool]:
        """What its tree is made from, as a fingerprint; its files, and whether all of them are there.

        InputError if one is not of grouping's making."""
        origin, targets = fingerprint(self.recipe, self.sample.images[0]), [tree_path(self.folder, self.name)]
        targets += [edge_map_path(self.folder, self.name)] if self.edges else []
        done = [is_done(target, origin) for target in targets]  # all are asked: a foreign file is an error
        return origin, targets, all(done)


def group_images(
    samples: Samples,
    folder: Path,
    settings: GroupingSettings,
    workers: int = 1,
    scheduler: str | None = None,
    network: EdgeNetwork | None = None,
    edges: bool = False,
) -> dict[str, str]:
    """Write `folder/<name>.npz` for every sample, and with `edges` its edge map, `<name>.edges.png` (16-bit).

    A file made from the same image content with the same settings, network and code stays; a stale or damaged
    one is made again; one that grouping did not write is left alone. `workers` processes of one thread each;
    with 1, all runs here, in one thread. scheduler: of Dask, whose workers do it instead; see
    `hgrl.grouping.cluster`. An image that cannot be grouped does not stop the others: the answer maps its
    name to what is wrong. Writing is atomic, so an interrupted run goes on where it stopped. A network on a
    GPU detects in this process, several images at a time, and the workers do the rest. InputError, before any
    work, where a result would lie on an input or the network is missing; later for a full disk and a killed
    process."""
    network = network or edge_network(settings)
    if scheduler is not None:  # workers have other working directories
        samples = dataclasses.replace(samples, images=tuple(path.absolute() for path in samples.images))
        folder = folder.absolute()
    _check_targets(samples, folder, edges)
    recipe = tree_recipe(settings, network)
    tasks = (Task(samples.subset([k]), folder, settings, network, edges, recipe) for k in range(len(samples)))
    if scheduler is None:
        tasks = detected(tasks) if network and network.device != "cpu" else tasks
        results = as_completed(_group_one, tasks, min(workers, len(samples)), "grouping")
    else:
        from hgrl.grouping.cluster import run_on_cluster  # here, for Dask takes half a second to import

        results = run_on_cluster(_group_one, tasks, scheduler, folder)
    failures = {}
    with bar(desc="grouping", total=len(samples)) as progress:
        for name, problem, notes in results:
            progress.update()
            failures[name] = problem
            for note in notes:
                progress.write(note)
    return {name: failures[name] for name in samples.names if failures[name] is not None}


def _check_targets(samples: Samples, folder: Path, edges: bool) -> None:
    """No result may lie where an input is. (Samples have no two equal names.)"""
    inputs = {os.path.realpath(image) for image in samples.images}
    for place in [tree_path, edge_map_path] if edges else [tree_path]:
        for target in (place(folder, name) for name in samples.names):
            if os.path.realpath(target) in inputs:
                raise InputError(f"{target}: an image to group would be overwritten; choose another --out")


def tree_recipe(settings: GroupingSettings, network: EdgeNetwork | None) -> str:
    """The fingerprint of all that decides a tree besides its image; with the image's, the tree's origin."""
    decides = settings.model_dump(mode="json", exclude={"self_target"})
    shipped = PIDINET if settings.edges == "pidinet" else MODEL
    detector = shipped if network is None else Path(network.weights)
    return fingerprint(decides, detector, code_fingerprint("hgrl.grouping.group"))


def detected(tasks: Iterable[Task]) -> Iterator[Task]:
    """The tasks, in another order, with edge maps: the network looks at BATCH images of one size at once.

    Those that need none or cannot be read pass as they are; `_group_one` tells why."""
    waiting: dict[tuple[int, ...], list[tuple[Task, np.ndarray]]] = {}
    for task in tasks:
        try:
            image = None if task.files()[2] else task.sample.image(0)
        except InputError:
            image = None
        if image is None:
            yield task
            continue
        waiting.setdefault(image.shape[:2], []).append((task, image))
        largest = max(waiting, key=lambda size: len(waiting[size]))
        if len(waiting[largest]) == BATCH or sum(map(len, waiting.values())) == MOST_WAITING:
            yield from _with_edge_maps(waiting.pop(largest))
    for batch in waiting.values():
        yield from _with_edge_maps(batch)


def _with_edge_maps(batch: list[tuple[Task, np.ndarray]]) -> Iterator[Task]:
    first = batch[0][0]
    edge_maps = detect_edges_of([image for _, image in batch], first.settings, first.network)
    for (task, _), edge_map in zip(batch, edge_maps, strict=True):
        yield dataclasses.replace(task, edge_map=edge_map)


def _group_one(task: Task) -> tuple[str, str | None, list[str]]:
    """Group one image and write the results: (name, what is wrong or None, what else to say)."""
    name, image, notes = task.name, task.sample.images[0], []
    try:
        origin, targets, done = task.files()
        if done:
            return name, None, notes
        if (edge_map := task.edge_map) is None:
            edge_map, tree = region_tree(task.sample.image(0), task.settings, task.network)
        else:
            tree = build_tree(contour_arcs(edge_map, task.settings), task.settings)
    except InputError as error:
        return name, str(error), notes
    except Exception as error:  # one odd image must not cost the others hours
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return name, f"{image}: cannot be grouped ({reason}); remove it or report it", notes
    notes += filter(None, map(make_way, targets))
    try:
        if task.edges:
            save_edge_map(targets[1], edge_map, origin)
        tree.save(targets[0], origin)
    except InputError as error:  # a full disk stops all
        if getattr(error.__cause__, "errno", None) != errno.ENAMETOOLONG:
            raise
        return name, f"{image}: its name is too long to name a result after it; shorten it", notes
    return name, None, notes


def height_scale(trees: Iterable[RegionTree], sigma_p: float, target: float) -> float:
    """The one factor s on heights that brings the median P(self) over all regions of the trees to `target`.

    P(self) = 1 / (1 + the sum over the image's other regions m of exp(-s d_T(a, m) / sigma_p)): equation 2
    with d_T(a, a) = 0. The paper leaves the unit of d_T open; this is measured on the training trees, not
    tuned on scores. Trees of one region do not count. Where no factor reaches the target (regions at distance
    0 of each other) the answer is the largest tried, 1e6. InputError when no tree has two regions."""
    distances = [tree.distances().astype(np.float64) for tree in trees if tree.regions > 1]
    if not distances:
        raise InputError("no height scale: no image has more than one region; lower grouping.min_area")
    low, high = 1e-6, 1e6
    while high / low > 1 + 1e-6:  # the median rises with the factor
        middle = float(np.sqrt(low * high))
        rows = [1 / np.exp(-middle / sigma_p * d).sum(axis=1) for d in distances]
        low, high = (middle, high) if float(np.median(np.concatenate(rows))) < target else (low, middle)
    return high
