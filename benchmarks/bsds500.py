"""Every figure of results/bsds500: the grouping on BSDS500's 200 test images, and the summary of all that was
measured on them.

    python benchmarks/bsds500.py detect [--hed hed.pt]     # edge maps, contour maps and trees ->
    artifacts/bsds500 python benchmarks/bsds500.py score                     # `python -m hgrl bsds-bench` on
    each, leaves, official figures -> results/bsds500 python benchmarks/spectral_correlation.py              #
    -> results/bsds500/spectral_correlation.json python benchmarks/grouping.py --images 20 --scaling 100 --out
    results/bsds500/speed.json python benchmarks/bsds500.py summary                   # summary.json,
    summary.md and the curves

Needs BSDS500 under HGRL_DATA. Settings were chosen on the val split with a forest of the train split alone
(grouping_ablation.py); the test split is scored once, with the shipped forest of train and val. Each step
goes on where an interrupted one stopped.
"""

from __future__ import annotations

import argparse
import io
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from hgrl.core.provenance import machine
from scipy.io import savemat

from hgrl.core import files as store
from hgrl.core import paths
from hgrl.core.loading import grouping_preset
from hgrl.core.processes import run_tasks
from hgrl.data.sets.bsds import ContourSamples, open_bsds
from hgrl.grouping.bsds_benchmark import committed_curves, load_counts, report, run_benchmark
from hgrl.grouping.edges import EdgeNetwork, detect_edges
from hgrl.grouping.group import contour_arcs
from hgrl.grouping.hierarchy import build_hierarchy, build_tree
from hgrl.grouping.outputs import save_edge_map, tree_path
from hgrl.grouping.region_tree import RegionTree
from hgrl.grouping.thinning import thin_edges
from hgrl.metrics import bsds
from hgrl.metrics.regions import achievable_accuracy, best_union_covering
from hgrl.reporting.figures.bsds import precision_recall_figure

MADE = paths.HOME / "artifacts" / "bsds500"
RESULTS = paths.HOME / "results" / "bsds500"
ROWS = {  # what is scored, and the preset it comes from
    "se": ("fast", "edges"),
    "se_multiscale": ("multiscale", "edges"),
    "hed": ("hed", "edges"),
    "ucm_fast": ("fast", "ucm"),
    "ucm_best": ("best", "ucm"),
    "ucm_hed": ("hed", "ucm"),
}
SETTINGS = {
    "fast": grouping_preset("fast"),
    "best": grouping_preset("best"),
    "multiscale": grouping_preset("fast", scales=(0.5, 1.0, 2.0)),  # the detector's own published scales
    "hed": grouping_preset("best", edges="hed"),
}
OFFICIAL = "gPb-owt-ucm (official)"
COMMANDS = {  # file of results/bsds500 -> what made it; HGRL_DATA is set
    "<row>.json, <row>.png": "python benchmarks/bsds500.py detect --hed hed.pt; python benchmarks/bsds500.py score",
    "hed.pt (not committed)": "python -m hgrl train-hed photos --device cpu --iterations 7000 --out hed.pt",
    "leaves_<preset>.json": "python benchmarks/bsds500.py score",
    "ablation_val.json, ablation_val.md": "python benchmarks/grouping_ablation.py --forest train-only.npz",
    "train-only.npz (not committed)": "python -m hgrl train-forest --splits train --out train-only.npz",
    "spectral_correlation.json": "python benchmarks/spectral_correlation.py",
    "speed.json": "python benchmarks/grouping.py --images 20 --scaling 100 --out results/bsds500/speed.json",
    "summary.json, summary.md, curves.json, precision_recall.png": "python benchmarks/bsds500.py summary",
}
BARS = {  # of the project's plan; the first word says which side is good
    "se": {"ods": ("at least", 0.735), "ois": ("at least", 0.755)},
    "se_multiscale": {"ods": ("at least", 0.742), "ois": ("at least", 0.760), "ap": ("at least", 0.78)},
    "ucm_fast": {
        "ods": ("at least", 0.73),
        "ois": ("at least", 0.75),
        "covering_ods": ("at least", 0.59),
        "pri_ods": ("at least", 0.825),
        "vi_ods": ("at most", 1.66),
    },
    "ucm_best": {
        "ods": ("at least", 0.74),
        "ois": ("at least", 0.76),
        "covering_ods": ("at least", 0.60),
        "pri_ods": ("at least", 0.825),
        "vi_ods": ("at most", 1.62),
    },
    "leaves_fast": {
        "max_count": ("at most", 40),
        "best_covering": ("at least", 0.84),
        "asa": ("at least", 0.90),
    },
    "leaves_best": {
        "max_count": ("at most", 40),
        "best_covering": ("at least", 0.86),
        "asa": ("at least", 0.91),
    },
    "spectral": {"correlation_with_exact": ("at least", 0.98)},
    "fast, seconds an image": {"total": ("at most", 0.5)},
    "best, seconds an image": {"total": ("at most", 2.0)},
    "files and workers": {
        "speedup_2_workers": ("at least", 1.8),
        "bytes_per_tree_500x375": ("at most", 12_000),
        "ms_per_tree_load": ("at most", 2.0),
    },
}
EDGES, CONTOURS = (
    ("ods", "ois", "ap"),
    ("ods", "ois", "ap", "covering_ods", "covering_ois", "pri_ods", "vi_ods"),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=("detect", "score", "summary"))
    parser.add_argument(
        "--presets",
        nargs="+",
        default=["fast", "best", "multiscale"],
        choices=list(SETTINGS),
        help="what to detect; hed joins with --hed",
    )
    parser.add_argument("--hed", type=Path, help="weights of `python -m hgrl train-hed`")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    root = paths.data_root("", embedded=False) / "BSDS500"
    samples = open_bsds(root.parent, root.name, "test")
    if options.step == "detect":
        detect(samples, options.presets + ["hed"] * (options.hed is not None), options.hed, options.workers)
    elif options.step == "score":
        score(samples, root, options.workers)
    else:
        summarise(root)


# --- edge maps, contour maps, trees
# -------------------------------------------------------------------------------------------


def detect(samples: ContourSamples, presets: list[str], hed: Path | None, workers: int) -> None:
    for preset in presets:
        network = EdgeNetwork(hed.absolute()) if preset == "hed" and hed else None
        tasks = [
            (samples.subset([k]), preset, network)
            for k in range(len(samples))
            if not _tree_file(preset, samples.images[k].stem).exists()
        ]
        run_tasks(_detect_one, tasks, workers, f"{preset}: images", len(tasks))


def _detect_one(sample: ContourSamples, preset: str, network: EdgeNetwork | None, tick: Any) -> None:
    settings, name = SETTINGS[preset], sample.images[0].stem
    cv2.setNumThreads(1)
    edge_map = detect_edges(sample.image(0), settings, network)
    save_edge_map(MADE / preset / "edges" / f"{name}.png", thin_edges(edge_map))
    arcs = contour_arcs(edge_map, settings)
    buffer = io.BytesIO()
    savemat(
        buffer,
        {"ucm2": build_hierarchy(arcs, settings.ucm_min_area, settings.arc_weight).ucm2()},
        do_compression=True,
    )
    store.write_bytes(MADE / preset / "ucm" / f"{name}.mat", buffer.getvalue())
    build_tree(arcs, settings).save(_tree_file(preset, name))  # last: an image with a tree has the rest
    tick(1)


def _tree_file(preset: str, name: str) -> Path:
    return tree_path(MADE / preset / "trees", name)


# --- scores
# -------------------------------------------------------------------------------------------------------------------


def score(samples: ContourSamples, root: Path, workers: int) -> None:
    for row, (preset, kind) in ROWS.items():
        folder, out = MADE / preset / kind, RESULTS / f"{row}.json"
        if not folder.is_dir():
            print(f"{row}: nothing was detected for it; skipped")
        elif not out.exists() or any(path.stat().st_mtime > out.stat().st_mtime for path in folder.iterdir()):
            print(f"{row}\n{report(run_benchmark(folder, root, out, workers=workers))}", flush=True)
    for preset in ("fast", "best"):
        tasks = [(samples.subset([k]), preset) for k in range(len(samples))]
        scores = run_tasks(_score_leaves, tasks, workers, f"leaves of {preset}: images", len(tasks))
        content = {
            path.stem: dict(zip(("count", "best_covering", "asa", "smallest"), found))
            for path, found in zip(samples.images, scores)
        }
        store.write_json(RESULTS / f"leaves_{preset}.json", {"images": len(content), "per_image": content})


def _score_leaves(sample: ContourSamples, preset: str, tick: Any) -> tuple[int, float, float, int]:
    """Leaves, best achievable covering and accuracy (means over annotators), pixels of the smallest leaf."""
    tree, truths = RegionTree.load(_tree_file(preset, sample.images[0].stem)), sample.ground_truth(0)
    tick(1)
    covering, asa = (
        float(np.mean([measure(truth, tree.labels) for truth in truths]))
        for measure in (best_union_covering, achievable_accuracy)
    )
    return tree.regions, covering, asa, int(np.bincount(tree.labels.ravel()).min())


# --- the summary
# --------------------------------------------------------------------------------------------------------------


def summarise(root: Path) -> None:
    started = time.monotonic()
    scored = {
        row: store.read_json(RESULTS / f"{row}.json") for row in ROWS if (RESULTS / f"{row}.json").exists()
    }
    content: dict[str, Any] = {}
    for row, found in scored.items():
        names = EDGES if ROWS[row][1] == "edges" else CONTOURS
        content[row] = {name: round(found[name], 4) for name in names} | {"images": found["images"]}
    for preset in ("fast", "best"):
        content[f"leaves_{preset}"] = _leaves(store.read_json(RESULTS / f"leaves_{preset}.json")["per_image"])
    content |= _measured(RESULTS / "spectral_correlation.json", RESULTS / "speed.json")
    content["against_official"] = _against_official(
        {row: RESULTS / f"{row}.json" for row in scored if ROWS[row][1] == "ucm"}, root
    )
    content["made_by"] = COMMANDS | machine(started)
    store.write_json(RESULTS / "summary.json", content)
    store.write_text(RESULTS / "summary.md", markdown(content))
    curves = {
        row: {"recall": found["recall"], "precision": found["precision"]} for row, found in scored.items()
    }
    official = bsds.official_scores(root / "ucm2" / "test_eval").tables["eval_bdry_thr"]
    curves[OFFICIAL] = {"recall": official[:, 1].tolist(), "precision": official[:, 2].tolist()}
    store.write_json(
        RESULTS / "curves.json",
        {
            name: {side: [round(x, 5) for x in values] for side, values in curve.items()}
            for name, curve in curves.items()
        },
    )
    store.write_figure(RESULTS / "precision_recall.png", precision_recall_figure(committed_curves()))
    print(markdown(content))


def _leaves(images: dict[str, dict[str, float]]) -> dict[str, float]:
    column = {
        key: np.array([image[key] for image in images.values()])
        for key in ("count", "best_covering", "asa", "smallest")
    }
    return {
        "max_count": int(column["count"].max()),
        "mean_count": round(float(column["count"].mean()), 2),
        "best_covering": round(float(column["best_covering"].mean()), 4),
        "asa": round(float(column["asa"].mean()), 4),
        "smallest_leaf_px": int(column["smallest"].min()),
        "images": len(images),
    }


def _measured(spectral: Path, speed: Path) -> dict[str, Any]:
    """What the two other benchmarks found, by the summary's names; those that were not run are left out."""
    content: dict[str, Any] = {}
    if spectral.exists():
        found = store.read_json(spectral)
        content["spectral"] = {
            "correlation_with_exact": round(found["mean"]["lattice"], 4),
            "images": len(found["images"]),
        }
    if speed.exists():
        content |= _speed(store.read_json(speed))
    return content


def _speed(found: dict[str, Any]) -> dict[str, Any]:
    """Seconds an image on one core at 481x321; reading and writing are in the total alone."""
    content: dict[str, Any] = {"seconds_per_image": {}}
    for preset, timed in found["presets"].items():
        parts = {
            "se": timed["parts"]["SE"],
            "spectral": timed["parts"]["spectral"],
            "owt_ucm": timed["parts"]["OWT-UCM"],
            "tree": timed["parts"]["tree"],
        }
        if not SETTINGS[preset].spectral:
            del parts["spectral"]
        seconds = {part: round(value, 4) for part, value in (parts | {"total": timed["total"]}).items()}
        content["seconds_per_image"][preset] = seconds | {"images": found["images"]}
    files, workers = found["files"], found["workers"]
    content["speedup_2_workers"] = round(workers["speedup"], 3)
    content["bytes_per_tree_500x375"] = round(files["tree_bytes"])
    content["ms_per_tree_load"] = round(files["load_ms"], 3)
    content["images"] = {
        "speedup_2_workers": workers["images"],
        "bytes_per_tree_500x375": found["images"],
        "ms_per_tree_load": found["images"],
    }
    return content


def _against_official(files: dict[str, Path], root: Path) -> dict[str, Any]:
    """{row: {figure: [mean difference an image, low, high]}}: each image's best F and covering, 95 % paired
    bootstrap over images.
    """
    official = bsds.official_scores(root / "ucm2" / "test_eval")
    content = {}
    for row, path in files.items():
        counts = load_counts(path)
        f = bsds.paired_mean(bsds.image_best(counts)[:, 3], official.best[:, 3])
        covering = bsds.paired_mean(bsds.image_covering(counts)[:, 1], official.covering[:, 1])
        content[row] = {
            "best_f": [round(x, 4) for x in f],
            "best_covering": [round(x, 4) for x in covering],
            "images": len(counts),
        }
    return content


def markdown(content: dict[str, Any]) -> str:
    """Each figure beside its bar."""
    lines = ["| row | figure | measured | bar | met | images |", "|---|---|---|---|---|---|"]
    rows = {row: figures for row, figures in content.items() if row in BARS or row in ROWS}
    rows |= {
        f"{preset}, seconds an image": figures
        for preset, figures in content.get("seconds_per_image", {}).items()
    }
    rows["files and workers"] = {name: content[name] for name in content.get("images", {})}
    for row, figures in rows.items():
        for name, value in figures.items():
            if name != "images" and isinstance(value, int | float):
                images = figures.get("images") or content["images"][name]
                side, bar = BARS.get(row, {}).get(name, ("", None))
                met = (
                    ""
                    if bar is None
                    else "yes"
                    if (value >= bar if side == "at least" else value <= bar)
                    else "NO"
                )
                lines.append(
                    f"| {row} | {name} | {value} | {f'{side} {bar}' if side else ''} | {met} | {images} |"
                )
    lines += [
        "",
        "Against the official gPb-owt-ucm, image by image (mean difference, 95 % paired bootstrap):",
        "",
    ]
    lines += ["| row | each image's best F | each image's best covering |", "|---|---|---|"]
    for row, found in content["against_official"].items():
        cells = ("{:+.4f} [{:+.4f}, {:+.4f}]".format(*found[name]) for name in ("best_f", "best_covering"))
        lines.append(f"| {row} | {' | '.join(cells)} |")
    lines += [
        "",
        "| file | made by |",
        "|---|---|",
        *(f"| {file} | `{command}` |" for file, command in COMMANDS.items()),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
