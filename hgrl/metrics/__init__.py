"""Scores of segmentations, boundaries, hierarchies and videos. NumPy, SciPy and numba; no torch, and nothing
else of hgrl but its errors.

    segmentation   confusion matrix, mIoU
    video          DAVIS's J and F (also needs OpenCV; import it by its name, `from hgrl.metrics import
    video`) regions        covering, Rand index, variation of information, achievable accuracy boundaries
    thinning, one-to-one boundary matching, precision and recall counts bsds           the BSDS500 benchmark:
    ODS, OIS, AP, covering, PRI, VI, as the authors' MATLAB code counts them outlines       where the labels
    of a map change

The BSDS500 benchmark on arrays of one's own, `boundaries` and `truths` being the annotators' maps of each
image:

    from hgrl import metrics

    thresholds = metrics.benchmark_thresholds()                      # 99 of them
    scores = [metrics.score_ucm(ucm2[name], boundaries[name], truths[name], thresholds) for name in names]
    counts = metrics.gather(names, thresholds, scores)
    print(metrics.figures_text(metrics.benchmark_figures(counts)))
    metrics.paired_bootstrap(counts, other_counts, "ods")            # (difference, low, high)

`score_edges` takes edge maps, `score_segmentations` separate partitions, `score_hierarchy` any nested ones.
On files and in several processes: `python -m hgrl bsds-bench` or
`hgrl.grouping.bsds_benchmark.run_benchmark`.
"""

from hgrl.metrics.boundaries import (
    MATCH_TOLERANCE,
    THRESHOLDS,
    BoundaryCounts,
    benchmark_thresholds,
    boundary_counts,
    contour_strength,
    count_boundaries,
    match_boundaries,
    thin,
)
from hgrl.metrics.bsds import (
    FIGURES,
    BenchmarkCounts,
    ImageScore,
    OfficialScores,
    benchmark_figures,
    evaluation_tables,
    f_measure,
    figures_text,
    gather,
    image_best,
    image_covering,
    official_scores,
    paired_bootstrap,
    paired_mean,
    precision_recall,
    score_edges,
    score_hierarchy,
    score_segmentations,
    score_ucm,
)
from hgrl.metrics.outlines import boundary_map
from hgrl.metrics.regions import (
    Hierarchy,
    RegionCounts,
    achievable_accuracy,
    best_union_covering,
    covering,
    hierarchy_counts,
    overlaps,
    rand_index,
    region_counts,
    ucm_hierarchy,
    variation_of_information,
)
from hgrl.metrics.segmentation import (
    VOID,
    confusion_matrix,
    iou_per_class,
    mean_accuracy,
    miou,
    pixel_accuracy,
    segmentation_scores,
)

__all__ = [
    "FIGURES",
    "MATCH_TOLERANCE",
    "THRESHOLDS",
    "VOID",
    "BenchmarkCounts",
    "BoundaryCounts",
    "Hierarchy",
    "ImageScore",
    "OfficialScores",
    "RegionCounts",
    "achievable_accuracy",
    "benchmark_figures",
    "benchmark_thresholds",
    "best_union_covering",
    "boundary_counts",
    "boundary_map",
    "confusion_matrix",
    "contour_strength",
    "count_boundaries",
    "covering",
    "evaluation_tables",
    "f_measure",
    "figures_text",
    "gather",
    "hierarchy_counts",
    "image_best",
    "image_covering",
    "iou_per_class",
    "match_boundaries",
    "mean_accuracy",
    "miou",
    "official_scores",
    "overlaps",
    "paired_bootstrap",
    "paired_mean",
    "pixel_accuracy",
    "precision_recall",
    "rand_index",
    "region_counts",
    "score_edges",
    "score_hierarchy",
    "score_segmentations",
    "score_ucm",
    "segmentation_scores",
    "thin",
    "ucm_hierarchy",
    "variation_of_information",
]
