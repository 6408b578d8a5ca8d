"""A region tree to look at: a picture of its cuts, and a page on which a slider moves the cut."""

import dataclasses
import io
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from hgrl.core.cache import code_fingerprint, fingerprint
from hgrl.core.errors import InputError
from hgrl.core.processes import as_completed
from hgrl.core.progress import bar
from hgrl.core.settings import GroupingSettings
from hgrl.data.samples import Samples
from hgrl.data.sets.folder import PICTURE
from hgrl.grouping.edges import EdgeNetwork, detect_edges
from hgrl.grouping.outputs import is_done, make_way, save_marked, tree_path
from hgrl.grouping.region_tree import RegionTree, load_tree
from hgrl.reporting.html_page import HERE, STYLE, as_json, data_uri, is_page, write_page

TEMPLATE = "explorer.html"
PHOTO_SIDE, PANEL_SIDE = 800, 480  # pixels, the longer side: of the page's photograph, of a panel
CAPTION, GAP, NARROWEST = 26, 10, 130
YELLOW = np.uint8([255, 221, 51])


@dataclass(frozen=True)
class _Task:
    sample: Samples  # of one image
    folder: Path
    settings: GroupingSettings
    network: EdgeNetwork | None
    recipe: str


def write_pictures(
    samples: Samples,
    folder: Path,
    settings: GroupingSettings,
    network: EdgeNetwork | None = None,
    workers: int = 1,
) -> dict[str, str]:
    """`<name>.regions.png` and `<name>.html` beside every sample's tree, which `group_images` has written.

    The page needs nothing but itself. What was made from the same tree stays; a file that is not ours is left
    alone. The answer maps a name to what is wrong with it."""
    code = code_fingerprint("hgrl.reporting.explorer")
    recipe, failures = fingerprint(code, HERE / TEMPLATE, STYLE), {}
    tasks = (_Task(samples.subset([k]), folder, settings, network, recipe) for k in range(len(samples)))
    with bar(desc="pictures", total=len(samples)) as progress:
        for name, problem in as_completed(_draw, tasks, min(workers, len(samples)), "pictures"):
            progress.update()
            failures[name] = problem
    return {name: failures[name] for name in samples.names if failures[name] is not None}


def _draw(task: _Task) -> tuple[str, str | None]:
    name = task.sample.names[0]
    picture, page = task.folder / f"{name}{PICTURE}", task.folder / f"{name}.html"
    try:
        tree, made_from = load_tree(tree_path(task.folder, name))
        origin = fingerprint(task.recipe, made_from)
        done = is_done(picture, origin), is_page(page, origin)  # both are asked: a foreign file is an error
        if all(done):
            return name, None
        image = task.sample.image(0)
        make_way(picture)
        save_marked(picture, strip(image, detect_edges(image, task.settings, task.network), tree), origin)
        title, data = escape(task.sample.images[0].name), as_json(page_data(image, tree))
        photo = data_uri(_jpeg(_resized(image, PHOTO_SIDE, up=False)), "jpeg")
        write_page(page, TEMPLATE, origin, title=title, about=escape(about(tree)), photo=photo, data=data)
    except InputError as error:
        return name, str(error)
    return name, None


def about(tree: RegionTree) -> str:
    height, width = tree.labels.shape
    return f"{width} x {height} pixels, {tree.regions} {'regions' if tree.regions > 1 else 'region'}"


def page_data(image: np.ndarray, tree: RegionTree) -> dict[str, Any]:
    """What the page draws by: the leaves at the photograph's size, row by row, as [leaf, length, ...]; each
    leaf's mean colour; merges as `RegionTree` has them; the order of the leaves."""
    labels = _resized(tree.labels, PHOTO_SIDE, up=False, smooth=False)
    flat = labels.ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=~flat[:1]))
    runs = np.column_stack([flat[starts], np.diff(starts, append=len(flat))])
    return {
        "width": labels.shape[1],
        "height": labels.shape[0],
        "runs": runs.ravel().tolist(),
        "colours": np.rint(_means(image, tree.labels, tree.regions)).astype(int).tolist(),
        "children": tree.children.tolist(),
        "heights": [round(float(height), 6) for height in tree.heights],
        "order": tree.order().tolist(),
    }


def strip(image: np.ndarray, edge_map: np.ndarray, tree: RegionTree) -> np.ndarray:
    """(h, w, 3) uint8: photograph, edges and contour map over three cuts, from all leaves to a few.

    image: (H, W, 3) uint8; edge_map: (H, W) in [0, 1]."""
    return sheet(tree_panels(image, edge_map, tree))


def tree_panels(image: np.ndarray, edge_map: np.ndarray, tree: RegionTree) -> list[tuple[str, np.ndarray]]:
    """Captions and panels of `strip`, all of one size, grey (h, w) or RGB (h, w, 3)."""
    photo, edges = (
        _resized(array, PANEL_SIDE) for array in (image, np.rint(255 * edge_map).astype(np.uint8))
    )
    small = dataclasses.replace(tree, labels=_resized(tree.labels, PANEL_SIDE, smooth=False))
    contours = small.contours() / max(tree.heights.max(initial=0), 1e-6)
    panels = [("photograph", photo), ("edges", 255 - edges), ("contour map", 255 - 255 * contours)]
    for count in (round(tree.regions**power) for power in (1, 0.75, 0.5)):
        labels = small.cut_into(count)
        lines = np.zeros(labels.shape, bool)
        lines[:, 1:] |= labels[:, 1:] != labels[:, :-1]
        lines[1:] |= labels[1:] != labels[:-1]
        colours = _means(photo, labels, count)[labels]
        caption = f"{count} {'regions' if count > 1 else 'region'}"
        panels.append((caption, np.where(lines[..., None], YELLOW, colours)))
    return panels


def sheet(panels: list[tuple[str, np.ndarray]]) -> np.ndarray:
    """(h, w, 3) uint8: panels of one size in rows of three, each below its caption."""
    height, width = panels[0][1].shape[:2]
    across, down = max(width, NARROWEST) + GAP, height + CAPTION + GAP
    drawn = Image.new("RGB", (3 * across + GAP, -(-len(panels) // 3) * down + GAP), "white")
    draw = ImageDraw.Draw(drawn)
    for k, (caption, panel) in enumerate(panels):
        x, y = GAP + k % 3 * across, GAP + k // 3 * down
        draw.text((x, y + 2), caption, fill="black", font_size=16)
        drawn.paste(Image.fromarray(panel.astype(np.uint8)), (x, y + CAPTION))
    return np.asarray(drawn)


def _means(image: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """(count, 3) float: the mean colour of each label; grey where it does not appear."""
    flat = labels.ravel()
    sizes = np.bincount(flat, minlength=count)
    sums = [np.bincount(flat, band.ravel(), minlength=count) for band in np.moveaxis(image, 2, 0)]
    return np.where(sizes[:, None] > 0, np.stack(sums, 1) / np.maximum(sizes, 1)[:, None], 128)


def _resized(array: np.ndarray, side: int, up: bool = True, smooth: bool = True) -> np.ndarray:
    """An image whose longer side is `side`; a label map, (H, W) not to be smoothed, by nearest pixels."""
    height, width = array.shape[:2]
    scale = side / max(height, width)
    if scale >= 1 and not up:
        return array
    size = max(1, round(width * scale)), max(1, round(height * scale))
    way = Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(array).resize(size, way))


def _jpeg(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
