"""The stage `pretraining`: every seed of a run trained side by side, to checkpoints and loss curves."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hgrl.core import paths
from hgrl.core.cache import code_fingerprint, fingerprint
from hgrl.core.checkpoint import Checkpoint, load_checkpoint, remove_aside
from hgrl.core.errors import InputError
from hgrl.core.experiment import Experiment, Run
from hgrl.core.files import read_json, write_text
from hgrl.core.interruption import passing_on_sigterm
from hgrl.core.left_out import LOSS_COLUMNS
from hgrl.core.paths import checkpoint_file
from hgrl.core.processes import run_tasks
from hgrl.core.results import COST, ORIGIN, write_results
from hgrl.core.settings import Settings
from hgrl.data.samples import Samples
from hgrl.data.sources import clip_frames, image_classes, pretraining_samples
from hgrl.data.stage import is_prepared, prepare_data
from hgrl.grouping.stage import auto_height_scale, group, is_grouped, train_edge_network
from hgrl.pretraining import ranks
from hgrl.pretraining.checkpoints import CheckpointKeeper
from hgrl.pretraining.job import TrainingJob
from hgrl.pretraining.loop import train
from hgrl.pretraining.methods import REGISTRY, check_methods, method_class


def training_samples(
    experiment: Experiment, settings: Settings, method: str = "hierarchical", grouping: str | None = None
) -> Samples:
    """The pretraining images that have a tree: unreadable ones are left out, for methods without trees too.

    All of `data.pretrain` if the method reads no trees and none were grown for them; `data.label_source` if
    it learns from labels; all frames of `data.clips`, if given, if it learns from clips."""
    root, kind = experiment.data_root, method_class(method)
    if kind.needs_classes:
        return image_classes(settings.data, root)
    if kind.needs_clips and not kind.needs_flow and settings.data.clips is not None:
        return clip_frames(settings.data, root)
    samples = pretraining_samples(settings.data, root)
    if not kind.needs_trees and not _has_trees(experiment, settings, grouping):
        return samples
    there = [experiment.files.tree_file(name, grouping).exists() for name in samples.names]
    return samples.subset(np.flatnonzero(there))


def _has_trees(experiment: Experiment, settings: Settings, grouping: str | None) -> bool:
    """Whether the profile's grouping grows trees for all that a run learns from."""
    data = experiment.settings.data
    return set(settings.data.pretrain) <= {*data.pretrain, *(() if grouping else data.extra)}


def pretrain(experiment: Experiment, run: Run, seed: int | None = None) -> list[Checkpoint]:
    """Train a run with every seed, side by side, or with one alone; seeds that are trained stay as they are.

    Processes of `torchrun` train the seeds together, one after the other, and the first one writes. Scores
    and curves are written when all seeds are asked for. Raises Stopped after a SIGTERM."""
    started, settings = time.monotonic(), run.settings
    profile, known = experiment.profile, ", ".join(map(str, settings.seeds))
    check_methods(experiment)
    if reason := experiment.left_out(run.name):
        problem = f"run {run.name!r} is left out of profile {profile!r}: {reason}"
        raise InputError(f"{problem}; see {paths.PARAMS}")
    if run.trained != run.name:
        problem = f"run {run.name!r} has the checkpoints of {run.trained!r}"
        raise InputError(f"{paths.PARAMS}: {problem}; list that under 'trained', not this")
    if seed not in (None, *settings.seeds):
        raise InputError(f"profile {profile}: seed {seed} is none of its seeds; choose one of: {known}")
    one = settings if seed is None else settings.model_copy(update={"seeds": (seed,)})
    with ranks.processes(ranks.training_device(settings.device)):
        folder = experiment.files.checkpoints(run.name)
        jobs = training_jobs(experiment, run.method, one, folder, run.definition.grouping)
        checkpoints, seconds = train_jobs(experiment, jobs, f"pretrain {run.name}")
        if seed is None:
            ranks.from_first(lambda: _write_training(experiment, run, checkpoints, seconds, started))
    return checkpoints


def training_jobs(
    experiment: Experiment, method: str, settings: Settings, folder: Path, grouping: str | None = None
) -> list[TrainingJob]:
    """A job for each of `settings.seeds`, from the trees of a grouping, whose checkpoint goes to `folder`.

    Raises InputError if there is no image to learn from."""
    samples, files = training_samples(experiment, settings, method, grouping), experiment.files
    if not len(samples):
        remedy = f"run `dvc repro grouping{f'-{grouping}' if grouping else ''}@{files.profile}` first"
        if not _has_trees(experiment, settings, grouping):
            file = paths.profile_file(files.profile)
            remedy = f"list the run's own `data.pretrain` under 'data.extra' in {file}, then {remedy}"
        raise InputError(f"{files.trees(grouping)}: no region trees; {remedy}")
    code = code_fingerprint("hgrl.pretraining.loop", without=("hgrl.pretraining.methods",))
    own = code_fingerprint(method_class(method).__module__)
    origin = fingerprint(code, own, samples.names, files.manifest, files.height_scale(grouping))
    about = method, settings, samples, files.trees(grouping), auto_height_scale(experiment, grouping)
    return [TrainingJob(*about, seed, checkpoint_file(folder, seed), origin) for seed in settings.seeds]


def train_jobs(
    experiment: Experiment, jobs: list[TrainingJob], desc: str
) -> tuple[list[Checkpoint], list[float | None]]:
    """Train jobs side by side, or resume them; their complete checkpoints, and what each took: see `_timed`.

    A damaged checkpoint is replaced by the last good one; a stale one is set aside until its replacement
    stands. Of several ranks the first alone reads the checkpoints back, the others return none."""
    first, place_of = ranks.is_first(), experiment.files.set_aside
    ranks.from_first(lambda: [CheckpointKeeper(job).make_ready(place_of(job.path)) for job in jobs])
    steps, processes = sum(job.steps for job in jobs), jobs[0].settings.jobs if ranks.world() == 1 else 1
    desc = f"{desc}: {len(jobs)} seeds, steps"
    with passing_on_sigterm():
        seconds = run_tasks(_timed, [(job,) for job in jobs], processes, desc, steps, shown=first)
    if not first:
        return [], []
    trained = [load_checkpoint(job.path) for job in jobs]
    for job in jobs:
        remove_aside(place_of(job.path))
    return trained, seconds


def _timed(job: TrainingJob, tick: Callable[[int], None]) -> float | None:
    """Seconds that training took on all of this process's cores; None unless it began here."""
    begun, started = job.path.exists(), time.process_time()
    train(job, tick)
    return None if begun else round(time.process_time() - started, 2)


def _write_training(
    experiment: Experiment,
    run: Run,
    checkpoints: list[Checkpoint],
    seconds: list[float | None],
    started: float,
) -> None:
    """Each seed's last losses, and a CSV of up to 100 means over stretches, which `dvc plots` draws."""
    scores, rows = {}, [LOSS_COLUMNS]
    for seed, saved in zip(run.settings.seeds, checkpoints, strict=True):
        scores[seed] = {"loss": float(saved.losses[-50:].mean()), "steps": saved.step}
        for part in np.array_split(np.arange(saved.step), min(100, saved.step)):
            rows.append(f"{seed},{part[-1] + 1},{saved.losses.numpy()[part].mean():.6f}")
    settings, file = run.settings.model_dump(mode="json"), experiment.files.result("pretraining", run.name)
    costs = _costs(file.with_name(f"{run.name}{ORIGIN}.json"), run, seconds)
    write_results(experiment, "pretraining", run.name, {"seeds": scores}, settings, started, **costs)
    write_text(file.with_suffix(".csv"), "\n".join(rows) + "\n")


def _costs(origin: Path, run: Run, seconds: list[float | None]) -> dict[str, Any]:
    """{"core_seconds": {seed: seconds}}; of a seed that was there already what the file says of it, if it is
    of the same training: how runs are judged, and the settings of others, may have changed since."""
    before = read_json(origin) if origin.exists() else {}
    shared = ("data", "grouping", "network", "augment", "pretrain", "methods")
    sections = {*shared, *method_class(run.method).sections}
    training = run.settings.model_dump(mode="json", include=sections)
    known = before.get(COST, {}) if training.items() <= before.get("settings", {}).items() else {}
    own = zip(run.settings.seeds, seconds, strict=True)
    return {COST: {str(seed): known.get(str(seed)) if value is None else value for seed, value in own}}


def prepare(experiment: Experiment, *runs: str, grouping: str | None = None) -> None:
    """Make what a notebook reads and does not find: data, a grouping's trees, checkpoints of `runs`."""
    if not is_prepared(experiment):
        prepare_data(experiment)
    trained = [run for run in map(experiment.run, runs) if run.method in REGISTRY]
    for name in dict.fromkeys([grouping, *(run.definition.grouping for run in trained)]):
        if experiment.settings_with(grouping=name).grouping.edges == "hed":
            train_edge_network(experiment)
        if not is_grouped(experiment, name):
            group(experiment, name)
    for run in trained:
        pretrain(experiment, experiment.run(run.trained))
