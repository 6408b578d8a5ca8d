"""One change at a time to the grouping, on every third validation image of BSDS500: what a setting is worth.

    python -m hgrl train-forest --splits train --out train-only.npz
    python benchmarks/grouping_ablation.py --forest train-only.npz

The forest must not have seen the validation images: train one on BSDS500's train split. Writes
ablation_val.json and ablation_val.md to results/bsds500. About a minute per row on one core; scores lie in
ablation_val.parts until all is done, so that an interrupted run goes on. Contour figures are those of the
uncut hierarchy, leaf figures those of the tree of at most 40 regions.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from photographs import bsds500

from hgrl.core import files as store
from hgrl.core import paths
from hgrl.core.cache import fingerprint
from hgrl.core.errors import InputError
from hgrl.core.loading import grouping_preset
from hgrl.core.progress import bar
from hgrl.core.settings import GroupingSettings
from hgrl.data.sets.bsds import ContourSamples
from hgrl.grouping import edges
from hgrl.grouping.group import contour_arcs
from hgrl.grouping.hierarchy import build_hierarchy, build_tree
from hgrl.metrics import bsds
from hgrl.metrics.boundaries import THRESHOLDS, BoundaryCounts, benchmark_thresholds
from hgrl.metrics.bsds import BenchmarkCounts, ImageScore
from hgrl.metrics.regions import RegionCounts, achievable_accuracy, best_union_covering

BASE = "best"
ROWS: dict[str, dict[str, Any]] = {
    "best": {},
    "fast": {"preset": "fast"},
    "without sharpening": {"sharpen": 0},
    "one scale": {"scales": (1.0,)},
    "scales 0.5, 1 and 2": {"scales": (0.5, 1.0, 2.0)},
    "scales 0.5, 1 and 2, mean arcs, spectral weight 1": {
        "scales": (0.5, 1.0, 2.0),
        "arc_strength": "mean",
        "spectral_weight": 1.0,
    },
    "without the spectral signal": {"spectral": False},
    "spectral weight 0.25": {"spectral_weight": 0.25},
    "spectral weight 1": {"spectral_weight": 1.0},
    "spectral mix: mcg": {"spectral_mix": "mcg"},
    "spectral mix: minmax": {"spectral_mix": "minmax"},
    "eigenvectors: plain decimation": {"spectral_refinements": 0},
    "eigenvectors: exact": {"spectral_exact": True},
    "oriented derivatives": {"spectral_derivative": "oriented"},
    "mean arcs": {"arc_strength": "mean"},
    "fast, oriented arcs": {"preset": "fast", "arc_strength": "oriented"},
    "linkage by the root of length": {"arc_weight": "root"},
    "areas 0": {"ucm_min_area": 0, "min_area": 0},
    "areas 50 and 100": {"ucm_min_area": 50, "min_area": 100},
    "areas 200 and 400": {"ucm_min_area": 200, "min_area": 400},
    "areas 400 and 1200": {"ucm_min_area": 400, "min_area": 1200},
}
FIGURES = ("ods", "ois", "covering_ods", "pri_ods", "vi_ods")
LEAVES = ("leaf_covering", "leaf_asa", "leaves")
TITLES = ("ODS", "OIS", "covering", "PRI", "VI", "leaves: covering", "leaves: ASA", "leaves")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--forest", type=Path, required=True, help="a forest trained on BSDS500's train split alone"
    )
    parser.add_argument("--data", type=Path, help="folder of BSDS500; default: BSDS500 under HGRL_DATA")
    parser.add_argument("--out", type=Path, default=paths.HOME / "results" / "bsds500")
    parser.add_argument("--rows", help=f"comma-separated, of: {', '.join(ROWS)}; default: all")
    parser.add_argument("--every", type=int, default=3, help="take every K-th image; default: 3")
    parser.add_argument("--limit", type=int, help="the first N of these")
    parser.add_argument("--thresholds", type=int, default=THRESHOLDS)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    edges.MODEL = options.forest  # the shipped one has seen val
    samples = bsds500("val", options.data)
    samples = samples.subset(range(len(samples))[:: options.every][: options.limit])
    rows = list(dict.fromkeys([BASE, *(options.rows.split(",") if options.rows else ROWS)]))
    content = ablate(samples, rows, options.thresholds, options.forest, options.out / "ablation_val.parts")
    store.write_json(options.out / "ablation_val.json", content)
    store.write_text(options.out / "ablation_val.md", markdown(content))
    shutil.rmtree(options.out / "ablation_val.parts", ignore_errors=True)
    print(markdown(content))


def ablate(
    samples: ContourSamples, rows: list[str], thresholds: int, forest: Path, parts: Path
) -> dict[str, Any]:
    """The figures of each row, and its differences from the base with 95 % intervals over draws of images."""
    unknown = [name for name in rows if name not in ROWS]
    if unknown:
        raise InputError(f"no row named {unknown[0]!r}; choose from: {', '.join(ROWS)}")
    settings = {name: grouping_preset(**{"name": BASE, **_renamed(ROWS[name])}) for name in rows}
    done: dict[str, list[dict[str, Any]]] = {name: [] for name in rows}
    with bar(desc="images x rows", total=len(samples) * len(rows)) as progress:
        for index in range(len(samples)):
            edge_maps: dict[tuple, np.ndarray] = {}
            for name in rows:
                part = fingerprint(settings[name].model_dump_json(), thresholds, forest)
                path = parts / f"{samples.images[index].stem}-{part}.json"
                done[name].append(_stored_score(path, samples, index, settings[name], thresholds, edge_maps))
                progress.update()
    names = [path.stem for path in samples.images]
    counts = {name: _gather(names, thresholds, scores) for name, scores in done.items()}
    base = counts[BASE], done[BASE]
    found = {name: _row(counts[name], done[name], *base) | {"changes": ROWS[name]} for name in rows}
    return {
        "base": BASE,
        "images": names,
        "split": "val",
        "thresholds": thresholds,
        "forest": fingerprint(forest),
        "rows": found,
    }


def _renamed(changes: dict[str, Any]) -> dict[str, Any]:
    return {"name" if key == "preset" else key: value for key, value in changes.items()}


def _stored_score(
    path: Path,
    samples: ContourSamples,
    index: int,
    settings: GroupingSettings,
    thresholds: int,
    edge_maps: dict[tuple, np.ndarray],
) -> dict[str, Any]:
    """The score of one image in one row; read where an interrupted run has left it."""
    if path.exists():
        return store.read_json(path)
    key = (settings.sharpen, settings.scales)
    if key not in edge_maps:
        edge_maps[key] = edges.detect_edges(samples.image(index), settings)
    boundaries, truths = samples.boundaries(index), samples.ground_truth(index)
    score = score_image(edge_maps[key], settings, boundaries, truths, benchmark_thresholds(thresholds))
    store.write_json(path, score)
    return score


def score_image(
    edge_map: np.ndarray,
    settings: GroupingSettings,
    boundaries: list[np.ndarray],
    truths: list[np.ndarray],
    thresholds: np.ndarray,
) -> dict[str, Any]:
    """Counts of the uncut hierarchy, and the leaves' best achievable covering and accuracy, mean over
    annotators, ready for json."""
    arcs = contour_arcs(edge_map, settings)
    ucm2 = build_hierarchy(arcs, settings.ucm_min_area, settings.arc_weight).ucm2()
    score = bsds.score_ucm(ucm2, boundaries, truths, thresholds)
    tree = build_tree(arcs, settings)
    return {
        "boundaries": [np.asarray(values).tolist() for values in score.boundaries],
        "regions": [np.asarray(values).tolist() for values in score.regions],
        "leaf_covering": float(np.mean([best_union_covering(truth, tree.labels) for truth in truths])),
        "leaf_asa": float(np.mean([achievable_accuracy(truth, tree.labels) for truth in truths])),
        "leaves": tree.regions,
    }


def _gather(names: list[str], thresholds: int, scores: list[dict[str, Any]]) -> BenchmarkCounts:
    parts = [
        ImageScore(*(kind(*map(np.array, score[part])) for part, kind in PARTS.items())) for score in scores
    ]
    return bsds.gather(names, benchmark_thresholds(thresholds), parts)


PARTS = {"boundaries": BoundaryCounts, "regions": RegionCounts}


def _row(
    counts: BenchmarkCounts, scores: list[dict], base: BenchmarkCounts, base_scores: list[dict]
) -> dict[str, Any]:
    """{figure: [value, difference from the base, low, high]}."""
    found = bsds.benchmark_figures(counts)
    row = {name: [found[name], *bsds.paired_bootstrap(counts, base, name, draws=2000)] for name in FIGURES}
    for name in LEAVES:
        ours, theirs = ([score[name] for score in part] for part in (scores, base_scores))
        row[name] = [float(np.mean(ours)), *bsds.paired_mean(np.array(ours), np.array(theirs))]
    return row


def markdown(content: dict[str, Any]) -> str:
    """The table: each figure, and in brackets what it gains over the base with the 95 % interval; bold where
    0 lies outside it."""
    what = f"BSDS500 val, {len(content['images'])} images, forest of train alone"
    lines = [
        f"{what}; differences from `{content['base']}` with 95 % paired bootstrap.",
        "",
        f"| row | {' | '.join(TITLES)} |",
        "|---|" + "---|" * len(TITLES),
    ]
    for name, row in content["rows"].items():
        is_base = name == content["base"]
        cells = [_cell(figure, row[figure], is_base) for figure in (*FIGURES, *LEAVES)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(figure: str, numbers: list[float], is_base: bool) -> str:
    value, difference, low, high = numbers
    digits = 1 if figure == "leaves" else 3
    if is_base or figure == "leaves":
        return f"{value:.{digits}f}"
    text = f"{value:.3f} ({difference:+.3f} [{low:+.3f}, {high:+.3f}])"
    return f"**{text}**" if low > 0 or high < 0 else text


if __name__ == "__main__":
    main()
