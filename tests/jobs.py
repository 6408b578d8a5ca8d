"""Training jobs on the tiny data set of conftest."""

from hgrl.core.checkpoint import load_checkpoint
from hgrl.core.device import one_thread
from hgrl.pretraining import ranks
from hgrl.pretraining.job import TrainingJob
from hgrl.pretraining.loop import TrainingLoop


def job_of(dataset, settings, path, seed=0, method="hierarchical", origin=""):
    """dataset: (samples, folder of trees)."""
    samples, trees = dataset
    return TrainingJob(method, settings, samples, trees, 1.0, seed, path, origin)


def train(dataset, settings, path, seed=0, method="hierarchical", **options):
    return train_until(job_of(dataset, settings, path, seed, method), **options)


def train_until(job, stop_after=None, tick=lambda steps: None):
    """As `hgrl.pretraining.loop.train`, or up to an earlier step; the checkpoint."""
    device = ranks.training_device(job.settings.device)
    with one_thread(device):
        loop = TrainingLoop(job, device)
        tick(loop.state.step)
        loop.run_until(min(stop_after or job.steps, job.steps), tick)
    return load_checkpoint(job.path)
