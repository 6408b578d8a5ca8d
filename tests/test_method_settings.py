"""What profile and params.yaml say about methods: a mistake is one line before anything is trained."""

import pytest
import torch
import yaml
from conftest import SMALL_PARAMS, add_runs, told, write_profile
from jobs import job_of

from hgrl.core import paths
from hgrl.pretraining.loop import TrainingLoop
from hgrl.pretraining.methods import REGISTRY, Method, check_methods
from hgrl.pretraining.stage import pretrain


@pytest.fixture
def train(experiment):
    """A function that trains a run of the profile as its files are now."""
    return lambda run: pretrain(experiment(), experiment().run(run))


PROFILE_MISTAKES = [
    ({"methods.mocco": {"dim": 8}}, "setting 'methods': unknown method 'mocco'; choose one of: moco, "),
    ({"methods.moco.queues": 8}, "unknown setting 'methods.moco.queues'; known ones: momentum, queue, "),
    (
        {"methods.moco.momentum": 1.5},
        "setting 'methods.moco.momentum': input should be less than or equal to 1",
    ),
    ({"methods.moco.augment": {"hues": 0}}, "unknown setting 'methods.moco.augment.hues'; "),
    ({"methods.segsort.clusters": 0}, "setting 'methods.segsort.clusters': input should be greater than"),
    (
        {"tuned": {"mocco": {}}},
        "setting 'tuned': unknown method 'mocco'; choose one of: hierarchical, moco, ",
    ),
    ({"tuned": {"moco": {"methods.moco.dims": 8}}}, "tuned.moco: unknown setting 'methods.moco.dims'"),
    ({"tuned": {"moco": {"pretrain.lr": -1}}}, "tuned.moco: setting 'pretrain.lr': input should be greater"),
]


@pytest.mark.parametrize("changes, line", PROFILE_MISTAKES)
def test_a_mistake_about_methods_in_a_profile_is_one_line_before_anything_is_trained(
    pipeline, experiment, changes, line
):
    write_profile(pipeline, changes)
    told_line = told(lambda: check_methods(experiment()))
    assert f"{paths.profile_file('small')}: {line}" in told_line
    assert told_line == told(lambda: pretrain(experiment(), experiment().run("ours")))


@pytest.mark.parametrize("changes, line", [
    ({"tuning": {"mocco": [{}]}}, "section 'tuning': unknown method 'mocco'; choose one of: hierarchical"),
    ({"tuning": {"moco": [{"methods.moco.dim": "x"}]}}, "tuning.moco: setting 'methods.moco.dim': input"),
    ({"runs": {"r": {"method": "moco", "overrides": {"methods.moco.dim": 0}}}}, "runs.r: setting 'methods"),
])  # fmt: skip
def test_a_mistake_about_methods_in_params_is_one_line(pipeline, experiment, changes, line):
    runs = SMALL_PARAMS["runs"] | changes.get("runs", {})
    paths.PARAMS.write_text(yaml.safe_dump(SMALL_PARAMS | changes | {"runs": runs}))
    assert f"{paths.PARAMS}: {line}" in told(lambda: check_methods(experiment()))


def test_a_run_of_an_unknown_method_is_one_line(pipeline, train):
    add_runs({"odd": {"method": "teleport"}})
    assert "unknown method 'teleport'; choose one of: hierarchical, moco, " in told(train, "odd")


def test_rivals_have_their_authors_augmentation_and_ours_the_profiles(tiny, dataset, tmp_path):
    settings = tiny({"augment.hue": 0.0})
    jobs = {name: job_of(dataset, settings, tmp_path / "a.pt", method=name) for name in REGISTRY}
    assert jobs["hierarchical"].augment == settings.augment
    own = {name: job.augment for name, job in jobs.items()}
    assert {view.crop_size for view in own.values()} == {32}
    assert own["moco"] == own["instfeat"] == own["hierarchical-image"] and own["moco"].crop_area == (0.2, 1.0)
    assert [(own[name].hue, own[name].greyscale) for name in ("moco", "densecl")] == [(0.4, 0.2), (0.1, 0.2)]
    assert (own["densecl"].jitter, own["densecl"].blur, own["segsort"].jitter) == (0.8, 0.5, 0.0)
    assert jobs["moco"].identity["settings"]["augment"]["hue"] == 0.4


def test_a_change_of_a_methods_augmentation_leaves_the_rest_and_other_methods_as_they_are(
    tiny, dataset, tmp_path
):
    changes = {"methods.moco.augment.crop_area": [0.5, 1.0], "methods.moco.augment.hue": 0.0}
    for name, changed in (("moco", True), ("instfeat", False), ("hierarchical", False)):
        plain, other = (job_of(dataset, tiny(own), tmp_path / "a.pt", method=name) for own in ({}, changes))
        assert (plain.identity != other.identity) == changed
        if changed:
            expected = {"crop_area": (0.5, 1.0), "hue": 0.0}
            assert other.augment == plain.augment.model_copy(update=expected)


def test_training_views_are_drawn_as_the_method_has_them(tiny, dataset, tmp_path):
    grey = tiny({"methods.moco.augment.greyscale": 1.0})
    for name in ("moco", "hierarchical"):
        loop = TrainingLoop(job_of(dataset, grey, tmp_path / "a.pt", method=name), torch.device("cpu"))
        red, green, _ = loop.views[0, 0]["images"].unbind(1)
        assert torch.equal(red, green) == (name == "moco")


def test_a_new_method_is_one_class_one_registry_line_and_one_run(pipeline, experiment, train, monkeypatch):
    from hgrl.core.data_settings import Positive, Section

    class FarSettings(Section):
        strength: Positive = 1.0

    class Far(Method):
        needs_trees = False
        own = ("far", FarSettings)

        def loss(self, batch):
            return -self.far.strength * self.network(batch.flat_images.float() / 255).std(), {}

    monkeypatch.setitem(REGISTRY, "far", Far)
    write_profile(pipeline, {"methods.far": {"strength": 2.0}})
    add_runs({"far": {"method": "far", "overrides": {"methods.far.strength": 0.5}}})
    first, _ = train("far")
    assert first.complete and first.identity["settings"]["far"] == {"strength": 0.5}
