"""Figure 5: masks carried through a video; the neighbours that a cell listens to; scores over time."""

import io
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from hgrl.core.errors import InputError
from hgrl.core.experiment import Experiment
from hgrl.core.labels import VOID
from hgrl.data.samples import Video
from hgrl.evaluation.networks import layers_of
from hgrl.evaluation.shipped import features_to_show
from hgrl.evaluation.tracking import TRACKERS, feature_tracker, reading
from hgrl.metrics.video import boundary_map
from hgrl.reporting.figures.panels import Pictures, grid, picture_rows

Cell = tuple[int, int]
PANELS = 4  # of an animation, beside one another
COLOURS = (np.array(colormaps["Set1"].colors) * 255).astype(np.uint8)


def overlay(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: an image with the objects of an id map (0 background, 255 void) tinted, outlined."""
    picture = image.copy()
    for k in np.unique(mask[(mask > 0) & (mask != VOID)]):
        colour, inside = COLOURS[(int(k) - 1) % len(COLOURS)], mask == k
        picture[inside] = (picture[inside] * 0.5 + colour * 0.5).astype(np.uint8)
        picture[boundary_map(inside)] = colour
    return picture


def tracks_to_show(
    experiment: Experiment, runs: Iterable[str], video: Video, seed: int
) -> dict[str, list[np.ndarray]]:
    """{run: a mask per frame}, carried as in column `field`, for pictures and never for scores.

    Networks are those trained here, else those that ship; a run with neither is left out, in a line."""
    tracks = {}
    for run in map(experiment.run, runs):
        own = run.settings.tracking
        try:
            if run.method in TRACKERS:
                tracker, _ = TRACKERS[run.method](experiment, run, seed)
            else:
                read = reading(features_to_show(experiment, run, seed), own, layers_of(run))
                tracker = feature_tracker(read, own.field)
        except InputError:
            print(f"{run.name}: not trained here, so left out of the pictures")
            continue
        tracks[run.name] = tracker(video, own)
    return tracks


def tracking_overlay(video: Video, tracks: Mapping[str, Pictures], frames: Sequence[int]) -> Figure:
    """A row per tracker ({name: one id map per frame}), a column per frame of `frames`."""
    rows = {name: [overlay(video.frame(t), masks[t]) for t in frames] for name, masks in tracks.items()}
    figure = picture_rows(rows, size=1.4, interpolation="nearest")
    for axis, t in zip(figure.axes[: len(frames)], frames, strict=True):
        axis.set_title(f"frame {t}", fontsize=8)
    return figure


def tracking_animation(video: Video, tracks: Mapping[str, Pictures], frames: Sequence[int]) -> bytes:
    """The same as a GIF that repeats: a panel per tracker, the frames one after the other, 5 a second."""
    height, width = video.frame(frames[0]).shape[:2]
    columns = min(PANELS, len(tracks))
    figure, axes = grid(-(-len(tracks) // columns), columns, 1.9, height / width)
    figure.set_dpi(72)
    for axis in axes.flat[len(tracks) :]:
        axis.set_axis_off()
    canvas, pictures = FigureCanvasAgg(figure), []
    for t in frames:
        for axis, (name, masks) in zip(axes.flat, tracks.items(), strict=False):
            axis.set_title(name, fontsize=8)
            for shown in axis.images:
                shown.remove()
            axis.imshow(overlay(video.frame(t), masks[t]), interpolation="nearest")
        canvas.draw()
        colours = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
        pictures.append(colours.quantize(128, dither=Image.Dither.NONE))
    buffer = io.BytesIO()
    pictures[0].save(buffer, "gif", save_all=True, append_images=pictures[1:], duration=200, loop=0)
    return buffer.getvalue()


def sequence_grid(scores: Mapping[str, Mapping[str, float]]) -> Figure:
    """{run: {sequence: J in [0, 1]}} as a grid of colours with percent in it: which rows win where."""
    runs, sequences = list(scores), list(next(iter(scores.values())))
    values = np.array([[100 * scores[run][name] for name in sequences] for run in runs])
    figure = Figure(figsize=(2 + 0.42 * len(sequences), 1.2 + 0.26 * len(runs)), layout="constrained")
    axes = figure.subplots()
    axes.imshow(values, vmin=0, vmax=100, cmap="viridis", aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        colour = "black" if value > 60 else "white"
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=6, color=colour)
    axes.set_xticks(range(len(sequences)), sequences, rotation=60, ha="right", fontsize=7)
    axes.set_yticks(range(len(runs)), runs, fontsize=7)
    return figure


def neighbour_picture(
    images: Sequence[np.ndarray], cell: Cell, neighbours: Sequence[tuple[int, int, int]], shape: Cell
) -> Figure:
    """Where a cell's neighbours lie: images of the context frames and, last, of the query's frame.

    cell: (y, x) on the feature grid of that shape; neighbours: (frame index, y, x) of each."""
    figure, axes = grid(1, len(images), 2.6)
    last = len(images) - 1
    for s, (axis, image) in enumerate(zip(axes[0], images, strict=True)):
        axis.imshow(image)
        found, style = [cell], {"marker": "+", "color": "red", "ms": 12}
        if s < last:
            found = [place for frame, *place in neighbours if frame == s]
            style = {"marker": "o", "color": "gold", "ms": 5, "mec": "black"}
        y, x = ((np.array(found).reshape(-1, 2) + 0.5) * np.array(image.shape[:2]) / shape - 0.5).T
        axis.plot(x, y, linestyle="", **style)
        title = "the cell" if s == last else f"{len(found)} of its neighbours, {last - s} back"
        axis.set_title(title, fontsize=8)
    return figure


def scores_over_time(scores: Mapping[str, Sequence[float]], label: str = "J") -> Figure:
    """{tracker: a score in [0, 1] per scored frame, from frame 1 on}."""
    figure = Figure(figsize=(7.5, 2.8), layout="constrained")
    axes = figure.subplots()
    for name, values in scores.items():
        axes.plot(range(1, len(values) + 1), values, marker=".", label=name)
    axes.set(xlabel="frame", ylabel=label, ylim=(0, 1.02))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(frameon=False, fontsize=8, loc="outside right upper")
    return figure


def match_picture(truth: np.ndarray, predicted: np.ndarray) -> Figure:
    """Regions and boundaries of two boolean masks laid over each other: what J and F compare.

    Both dark grey, the truth alone (missed) vermilion, the prediction alone (too much) blue."""
    figure, axes = grid(1, 2, 2.5)
    outlines = boundary_map(truth), boundary_map(predicted)
    layers = {"regions: J": (truth, predicted), "boundaries: F": outlines}
    for axis, (title, (true, found)) in zip(axes[0], layers.items(), strict=True):
        axis.imshow(
            true + 2 * found, cmap=ListedColormap(["white", "#D55E00", "#0072B2", "0.3"]), vmin=0, vmax=3
        )
        axis.set_title(title, fontsize=9)
    return figure
