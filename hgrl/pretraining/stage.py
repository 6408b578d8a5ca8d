"""The stage `pretraining`: every seed of a run trained side by side, to checkpoints and loss curves."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hgrl.core import paths
from hgrl.core.cache import code_fingerprint, fingerprint
from hgrl.core.checkpoint import Checkpoint, load_checkpoint, remove_aside
from hgrl.core.errors import InputError
from hgrl.core.experiment import Experiment, Run
from hgrl.core.files import write_text
from hgrl.core.interruption import passing_on_sigterm
from hgrl.core.left_out import LOSS_COLUMNS
from hgrl.core.paths import checkpoint_file
from hgrl.core.processes import run_tasks
from hgrl.core.results import write_results
from hgrl.core.settings import Settings
from hgrl.data.samples import Samples
from hgrl.data.sources import open_samples, pretraining_samples
from hgrl.data.stage import is_prepared, prepare_data
from hgrl.grouping.stage import auto_height_scale, group, is_grouped, train_edge_network
from hgrl.pretraining import ranks
from hgrl.pretraining.checkpoints import CheckpointKeeper
from hgrl.pretraining.job import TrainingJob
from hgrl.pretraining.loop import pretrain as train_to_the_end
from hgrl.pretraining.methods import REGISTRY, check_methods, method_class
from hgrl.pretraining.ranks import training_device

METHODS = "hgrl.pretraining.methods"


def training_samples(
    experiment: Experiment, settings: Settings, method: str = "hierarchical", grouping: str | None = None
) -> Samples:
    """The pretraining images that have a tree: unreadable ones are left out, for methods without trees too.

    All images of a run's own `data.pretrain` if the method reads no trees and none were grown for them. The
    probe's labelled images if the method learns from labels."""
    data, root = settings.data, experiment.data_root
    if method_class(method).needs_classes:
        return open_samples(data.probe_train, root)
    samples = pretraining_samples(data, root)
    if not method_class(method).needs_trees and not _has_trees(experiment, settings, grouping):
        return samples
    there = [experiment.files.tree_file(name, grouping).exists() for name in samples.names]
    return samples.subset(np.flatnonzero(there))


def _has_trees(experiment: Experiment, settings: Settings, grouping: str | None) -> bool:
    """Whether the profile's grouping grows trees for all that a run learns from."""
    data = experiment.settings.data
    return set(settings.data.pretrain) <= {*data.pretrain, *(() if grouping else data.extra)}


def pretrain(experiment: Experiment, run: Run, seed: int | None = None) -> list[Checkpoint]:
    """Train a run with every seed, side by side, or with one alone; seeds that are trained stay as they are.

    If `torchrun` started this process, all of its processes train the seeds together, one after the other;
    the first one writes. Scores and curves are written when all seeds are asked for. Raises Stopped after a
    SIGTERM: the checkpoints are then not complete."""
    started, settings = time.monotonic(), run.settings
    check_methods(experiment)
    if reason := experiment.left_out(run.name):
        raise InputError(
            f"run {run.name!r} is left out of profile {experiment.profile!r}: {reason}; see {paths.PARAMS}"
        )
    if run.trained != run.name:
        problem = f"run {run.name!r} has the checkpoints of {run.trained!r}"
        raise InputError(f"{paths.PARAMS}: {problem}; list that under 'trained', not this")
    if seed is not None and seed not in settings.seeds:
        known = ", ".join(map(str, settings.seeds))
        raise InputError(
            f"profile {experiment.profile}: seed {seed} is none of its seeds; choose one of: {known}"
        )
    one = settings if seed is None else settings.model_copy(update={"seeds": (seed,)})
    with ranks.processes(training_device(settings.device)):
        folder = experiment.files.checkpoints(run.name)
        jobs = training_jobs(experiment, run.method, one, folder, run.definition.grouping)
        checkpoints = train_jobs(experiment, jobs, f"pretrain {run.name}")
        if seed is None:
            ranks.from_first(lambda: _write_training(experiment, run, checkpoints, started))
    return checkpoints


def training_jobs(
    experiment: Experiment, method: str, settings: Settings, folder: Path, grouping: str | None = None
) -> list[TrainingJob]:
    """A job for each of `settings.seeds`, from the trees of a grouping, whose checkpoint goes to `folder`.

    Raises InputError if there is no image to learn from."""
    samples, files = training_samples(experiment, settings, method, grouping), experiment.files
    if not len(samples):
        stage = f"grouping-{grouping}@{files.profile}" if grouping else f"grouping@{files.profile}"
        file = paths.profile_file(files.profile)
        first = f"list the run's own `data.pretrain` under 'data.extra' in {file}, then "
        first = "" if _has_trees(experiment, settings, grouping) else first
        raise InputError(f"{files.trees(grouping)}: no region trees; {first}run `dvc repro {stage}` first")
    own = method_class(method).__module__
    code = code_fingerprint("hgrl.pretraining.loop", without=(METHODS,)), code_fingerprint(own)
    origin = fingerprint(*code, samples.names, files.manifest, files.height_scale(grouping))
    scale, trees = auto_height_scale(experiment, grouping), files.trees(grouping)
    return [
        TrainingJob(method, settings, samples, trees, scale, seed, checkpoint_file(folder, seed), origin)
        for seed in settings.seeds
    ]


def train_jobs(experiment: Experiment, jobs: list[TrainingJob], desc: str) -> list[Checkpoint]:
    """Train jobs side by side, or resume them; their complete checkpoints.

    A damaged checkpoint is replaced by the last good one; a stale one is set aside until its replacement
    stands. Of several ranks the first alone reads the checkpoints back, the others return none."""
    settings, first = jobs[0].settings, ranks.is_first()
    aside = [experiment.files.set_aside(job.path) for job in jobs]
    ranks.from_first(lambda: [_make_ready(*pair) for pair in zip(jobs, aside, strict=True)])
    steps, processes = sum(job.steps for job in jobs), settings.jobs if ranks.world() == 1 else 1
    desc = f"{desc}: {len(jobs)} seeds, steps"
    with passing_on_sigterm():
        run_tasks(train, [(job,) for job in jobs], processes, desc, steps, shown=first)
    if not first:
        return []
    trained = [load_checkpoint(job.path) for job in jobs]
    for place in aside:
        remove_aside(place)
    return trained


def _make_ready(job: TrainingJob, aside: Path) -> None:
    keeper = CheckpointKeeper(job)
    keeper.restore_last_good()
    keeper.set_stale_aside(aside)


def train(job: TrainingJob, tick: Callable[[int], None]) -> None:
    """Train one seed up to its last step, from its checkpoint if there is one: a task of `run_tasks`."""
    train_to_the_end(job, tick)


def _write_training(experiment: Experiment, run: Run, checkpoints: list[Checkpoint], started: float) -> None:
    seeds = dict(zip(run.settings.seeds, checkpoints, strict=True))
    scores = {
        k: {"loss": float(saved.losses[-50:].mean()), "steps": saved.step} for k, saved in seeds.items()
    }
    settings = run.settings.model_dump(mode="json")
    write_results(experiment, "pretraining", run.name, {"seeds": scores}, settings, started)
    write_text(experiment.files.result("pretraining", run.name).with_suffix(".csv"), _loss_curves(seeds))


def _loss_curves(seeds: dict[int, Checkpoint], points: int = 100) -> str:
    """CSV of the loss over the steps, each point the mean of a stretch of the run: what `dvc plots` draws."""
    rows = [LOSS_COLUMNS]
    for seed, saved in seeds.items():
        stretches = np.array_split(np.arange(saved.step), min(points, saved.step))
        rows += [f"{seed},{part[-1] + 1},{saved.losses.numpy()[part].mean():.6f}" for part in stretches]
    return "\n".join(rows) + "\n"


def prepare(experiment: Experiment, *runs: str, grouping: str | None = None) -> None:
    """Make what a notebook reads and does not find: data, the trees of a grouping, the checkpoints of `runs`.

    In the pipeline all is there; a reader who opens one notebook alone waits for the smoke-sized rest."""
    if not is_prepared(experiment):
        prepare_data(experiment)
    _prepare_trees(experiment, grouping)
    for run in map(experiment.run, runs):
        if run.method in REGISTRY:
            if run.definition.grouping != grouping:
                _prepare_trees(experiment, run.definition.grouping)
            pretrain(experiment, experiment.run(run.trained))


def _prepare_trees(experiment: Experiment, grouping: str | None) -> None:
    if experiment.settings_with(grouping=grouping).grouping.edges == "hed":
        train_edge_network(experiment)
    if not is_grouped(experiment, grouping):
        group(experiment, grouping)
