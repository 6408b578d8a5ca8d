"""Training jobs on the tiny data set of conftest."""

from hgrl.pretraining.job import TrainingJob
from hgrl.pretraining.loop import pretrain


def job_of(dataset, settings, path, seed=0, method="hierarchical", origin=""):
    """dataset: (samples, folder of trees)."""
    samples, trees = dataset
    return TrainingJob(method, settings, samples, trees, 1.0, seed, path, origin)


def train(dataset, settings, path, seed=0, method="hierarchical", **options):
    return pretrain(job_of(dataset, settings, path, seed, method), **options)
