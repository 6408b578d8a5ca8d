"""Settings: the paper's numbers are the defaults, and every mistake is one line that names file and key."""

import pytest
from pydantic import ValidationError

from hgrl.core import paths
from hgrl.core.errors import InputError
from hgrl.core.experiment import load_experiment
from hgrl.core.loading import grouping_preset, load_yaml
from hgrl.core.settings import GROUPING_PRESETS, GroupingSettings, PretrainSettings, Settings

PAPER = {  # section 4 of the paper
    "grouping.max_regions": 40,  # 4.1
    "grouping.spectral": True,
    "network.backbone": "resnet50",  # 4.2
    "network.hypercolumn_stages": (2, 3),  # Res3, Res4
    "network.hypercolumn_channels": 256,
    "network.embedding_dim": 32,
    "augment.crop_size": 224,
    "sampling.anchors": 7,
    "sampling.positives": 10,
    "sampling.negatives": 5,
    "sampling.sigma_p": 0.8,
    "objective.form": "ratio",  # equation 1
    "objective.temperature": 1.0,
    "pretrain.epochs": 80,
    "pretrain.batch": 70,
    "pretrain.lr": 1e-2,
    "pretrain.schedule": "step",
    "pretrain.milestones": (25 / 80, 45 / 80, 60 / 80),
    "pretrain.decay": 0.1,
    "pretrain.warmup_steps": 0,
    "finetune.iterations": 30_000,  # He et al. 2020, appendix
    "finetune.lr": 0.003,
    "finetune.milestones": (0.7, 0.9),
    "finetune.batch": 16,
    "finetune.weight_decay": 1e-4,
    "finetune.crop_size": 513,
    "finetune.dilation": 6,
    "probe.iterations": 20_000,
    "probe.milestones": (10 / 20, 15 / 20),
    "probe.batch": 20,
    "probe.lr": 0.03,
    "probe.momentum": 0.9,
    "probe.weight_decay": 5e-4,
    "probe.crop_size": 384,
    "retrieval.segments": 15,  # table 2
    "tracking.layer": "embedding",  # 5.3
    "tracking.paper.previous_frames": 2,
    "tracking.paper.neighbours": 10,
}


def look_up(settings, dotted):
    for part in dotted.split("."):
        settings = getattr(settings, part)
    return settings


@pytest.mark.parametrize("dotted", PAPER)
def test_defaults_are_the_papers_numbers(dotted):
    assert look_up(Settings(), dotted) == PAPER[dotted]


def test_the_papers_data_are_the_default():
    data = Settings().data
    assert [(source.kind, source.split) for source in data.pretrain] == [
        ("voc", "train_aug"),
        ("coco", "train2014"),
    ]
    assert (data.primary.train.split, data.primary.val.split, data.videos.kind, data.fraction) == (
        "train_aug",
        "val",
        "davis",
        1.0,
    )


def changed(overrides):
    return load_experiment("tiny").settings_with(overrides)


def test_a_profile_a_run_and_the_caller_override_in_that_order(home):
    experiment = load_experiment("tiny")
    assert experiment.profile == "tiny" and experiment.settings.sampling.anchors == 3
    assert experiment.settings.sampling.cns == (5,)
    assert experiment.run("ours").settings.sampling.cns == (20,)
    assert experiment.settings_with({"sampling.cns": 7, "network.width": 8}).network.width == 8
    assert experiment.settings.sampling.cns == (5,) and experiment.settings.network.width == 64


@pytest.mark.parametrize("given, read", [("5,20", (5, 20)), ("5", (5,)), (0, (0,)), ([5, 20], (5, 20))])
def test_cns_is_one_number_or_several(home, given, read):
    assert changed({"sampling.cns": given}).sampling.cns == read


@pytest.mark.parametrize("given, read", [("auto", "auto"), ("rank", "rank"), (10, 10.0), ("10", 10.0)])
def test_the_height_unit_is_a_name_or_a_factor(home, given, read):
    assert changed({"sampling.height_unit": given}).sampling.height_unit == read


def test_settings_are_frozen(settings):
    with pytest.raises(ValidationError, match="frozen"):
        settings.sampling.anchors = 9


def test_half_the_data_trains_for_140_epochs_when_the_run_says_so(home):
    assert changed({"pretrain.epochs_factor": 1.75}).pretrain.run_epochs == 140


BAD_PROFILES = {
    "sampling: {anchor: 3}": "unknown setting 'sampling.anchor'",
    "samplings: {anchors: 3}": "unknown setting 'samplings'",
    "sampling: {anchors: seven}": "setting 'sampling.anchors': .*got 'seven'",
    "sampling: {anchors: 7.5}": "setting 'sampling.anchors'",
    "sampling: {anchors: 0}": "setting 'sampling.anchors': .*greater than or equal to 1",
    "sampling: {sigma_p: 0}": "setting 'sampling.sigma_p': .*greater than 0",
    "sampling: {sigma_p: .nan}": "setting 'sampling.sigma_p'",
    "sampling: {cns: [5, -1]}": r"setting 'sampling.cns.1'",
    "sampling: {cns: []}": "setting 'sampling.cns'",
    "sampling: {cns: '5,many'}": "setting 'sampling.cns'",
    "sampling: {height_unit: metres}": "setting 'sampling.height_unit': .*'raw', 'rank' or 'auto'",
    "sampling: {height_unit: -1}": "setting 'sampling.height_unit': .*greater than 0",
    "augment: {crop_size: 30}": "setting 'augment.crop_size': .*multiple of 4",
    "augment: {crop_area: [1.0, 0.2]}": "setting 'augment.crop_area': .*smaller number comes first",
    "augment: {crop_area: [0.2]}": "setting 'augment.crop_area.1'",
    "augment: {flip: 1.5}": "setting 'augment.flip'",
    "network: {backbone: vgg}": "setting 'network.backbone': .*'resnet50'",
    "network: {hypercolumn_stages: [0, 3]}": "setting 'network.hypercolumn_stages.0'",
    "grouping: {max_regions: 300}": "setting 'grouping.max_regions': .*255",
    "data: {fraction: 0}": "setting 'data.fraction'",
    "data: {videos: {kind: youtube, folder: x, split: y}}": "setting 'data.videos.kind'",
    "data: {videos: {kind: davis}}": "setting 'data.videos.folder'",
    "pretrain: {lr: fast}": "setting 'pretrain.lr'",
    "pretrain:": "setting 'pretrain'",
    "pretrain: {milestones: [3, -1]}": "setting 'pretrain.milestones.0': .*less than 1.*got 3",
    "pretrain: {milestones: [0.7, 0.2]}": "setting 'pretrain.milestones': .*smaller number comes first",
    "pretrain: {lr: -0.1}": "setting 'pretrain.lr': .*greater than 0",
    "pretrain: {lr: .inf}": "setting 'pretrain.lr': .*finite number",
    "pretrain: {weight_decay: -1}": "setting 'pretrain.weight_decay'",
    "pretrain: {epochs: 010}": "010 would be read as an octal number",
    "probe: {head_channels: -3}": "setting 'probe.head_channels'",
    "probe: {short_side: 0}": "setting 'probe.short_side'",
    "probe: {heads: [nonsense]}": "setting 'probe.heads.0': .*got 'nonsense'",
    "probe: {momentum: .nan}": "setting 'probe.momentum'",
    "retrieval: {layers: [embeding]}": "setting 'retrieval.layers.0': .*'embedding'",
    "data: {videos: {kind: davis, folder: x, split: y, part: [0.5, 0.2]}}": "setting 'data.videos.part'",
    "data: {labelled: {}}": "setting 'data.labelled': .*at least 1",
    "data: {labelled: {../x: {train: y, val: z}}}": "setting 'data.labelled.../x",
    "data: {videos: {kind: voc, folder: x, split: y, classes: [a, a]}}": "videos.classes': .*a stands",
    "device: toaster": "setting 'device': .*got 'toaster'",
    "seeds: [0, 0]": "setting 'seeds': .*twice",
    "seeds: [0]\nseeds: [1]": "key 'seeds' is written twice",
    "sampling: {anchors: 3, anchors: 4}": "key 'anchors' is written twice",
    "profile: smoke": "unknown setting 'profile'",
    "without: {theirs: no time}": "setting 'without': no run named 'theirs'",
    "seeds: []": "setting 'seeds'",
    "- a list": "expected a mapping",
    "": "expected a mapping",
    "sampling: {anchors: 3": "not valid YAML",
    "a: b: c": "not valid YAML",
}


@pytest.mark.parametrize("content", BAD_PROFILES)
def test_a_mistake_in_a_profile_is_one_line_naming_file_and_key(home, content):
    path = home / "profiles" / "bad.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=BAD_PROFILES[content]) as caught:
        load_experiment("bad")
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_profile_lists_the_ones_there_are(home):
    with pytest.raises(InputError, match=r"profiles/none\.yaml: no such file; choose one of: tiny$"):
        load_experiment("none")


def test_an_unknown_run_lists_the_ones_there_are(home):
    with pytest.raises(InputError, match=r"params\.yaml: no run named 'theirs'; choose one of: ours$"):
        load_experiment("tiny").run("theirs")


BAD_RUNS = {
    "runs: {ours: {method: hierarchical, override: {}}}": "unknown setting 'runs.ours.override'",
    "runs: {ours: {end_to_end: true}}": "setting 'runs.ours.method'",
    "runs: {ours: }": "setting 'runs.ours':",
    "runs: {e: {method: moco, checkpoint_of: moco}}": "setting 'runs.e.checkpoint_of': 'moco' is no run of",
    "runs: {a: {method: ours}, e: {method: moco, checkpoint_of: a}}": "setting 'runs.e.checkpoint_of': 'a'",
    "runs: {a: {method: m}, b: &b {method: m, checkpoint_of: a}, c: {<<: *b, checkpoint_of: b}}": "setting",
    "runs: {net: {method: imagenet}}": "setting 'runs.net.weights'",
    "runs: {net: {method: moco, weights: x.pth}}": "setting 'runs.net.weights'",
    "runs: [ours]": "section 'runs'",
    "profile: mini": "section 'runs'",
    "runs: {}\nprobes: [ours]": "unknown key 'probes'; known ones: profile, runs, trained",
    "runs: {}\nprobe: [theirs]": "section 'probe' lists 'theirs', which 'runs' does not define",
    "runs: {a: {method: moco, profiles: [tinny]}}": "setting 'runs.a.profiles': no profile 'tinny'",
}


@pytest.mark.parametrize("content", BAD_RUNS)
def test_a_mistake_in_the_runs_is_one_line_naming_file_and_key(home, content):
    (home / "params.yaml").write_text(content)
    with pytest.raises(InputError, match=rf"params\.yaml: {BAD_RUNS[content]}") as caught:
        load_experiment("tiny")
    assert "\n" not in str(caught.value)


BAD_OVERRIDES = [
    ("sampling.cnss: 3", "unknown setting 'sampling.cnss'"),
    ("seeds.first: 3", "does not name a setting"),
]


@pytest.mark.parametrize("override, reason", BAD_OVERRIDES)
def test_a_runs_wrong_override_blames_the_run_not_the_profile(home, override, reason):
    (home / "params.yaml").write_text(f"runs: {{ours: {{method: hierarchical, overrides: {{{override}}}}}}}")
    with pytest.raises(InputError, match=rf"params\.yaml: runs\.ours: .*{reason}"):
        load_experiment("tiny").run("ours")


def test_the_callers_wrong_override_is_named(home):
    with pytest.raises(InputError, match=r"overrides: unknown setting 'sampling\.cnss'"):
        changed({"sampling.cnss": 3})


def test_every_profile_and_run_of_this_repository_is_valid():
    profiles = sorted(path.stem for path in (paths.HOME / "profiles").glob("*.yaml"))
    assert {"smoke", "mini", "paper"} <= set(profiles)
    for profile in profiles:
        experiment = load_experiment(profile)
        assert all(experiment.run(name).settings for name in experiment.definitions)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_profile_in_another_encoding_is_one_line(home, encoding):
    (home / "profiles/bad.yaml").write_bytes("seeds: [0] # für".encode(encoding))
    with pytest.raises(InputError, match=r"profiles/bad\.yaml: not UTF-8 text; save it as UTF-8"):
        load_experiment("bad")


def test_an_anchor_may_be_merged_and_its_keys_overridden(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("one: &one {a: 1, b: 2}\ntwo: {<<: *one, a: 3}\n")
    assert load_yaml(path) == {"one": {"a": 1, "b": 2}, "two": {"a": 3, "b": 2}}


@pytest.mark.parametrize("name", GROUPING_PRESETS)
def test_a_preset_stands_instead_of_the_defaults_and_under_what_is_given(name):
    values = GROUPING_PRESETS[name]
    assert values["sharpen"] == 2
    settings = grouping_preset(name)
    assert {key: getattr(settings, key) for key in values} == values
    changed = grouping_preset(name, min_area=7, spectral=not values["spectral"])
    assert (
        changed.min_area == 7
        and changed.spectral != values["spectral"]
        and changed.scales == values["scales"]
    )
    assert GroupingSettings(**settings.model_dump()) == settings
    preset = {"grouping.preset": name, "grouping.min_area": 7}
    assert load_experiment("paper").settings_with(preset).grouping.min_area == 7


def test_best_is_multi_scale_and_spectral_and_fast_is_neither():
    fast, best = grouping_preset("fast"), grouping_preset("best")
    assert len(fast.scales) == 1 and not fast.spectral and len(best.scales) > 1 and best.spectral


def test_an_unknown_preset_names_the_known_ones():
    with pytest.raises(InputError, match=r"'worst'.*fast, best"):
        load_experiment("paper").settings_with({"grouping.preset": "worst"})
    with pytest.raises(InputError, match="unknown setting 'x'"):
        grouping_preset("fast", x=1)


@pytest.mark.parametrize("shares", [[0.0], [1.01], [0.125], [-0.2]])
def test_snapshots_are_whole_percents_of_the_run(shares):
    with pytest.raises(ValueError, match="whole percents"):
        PretrainSettings(snapshots=shares)


def test_snapshots_are_in_order_and_once_each():
    assert PretrainSettings(snapshots=[0.4, 0.29, 0.4, 1.0]).snapshots == (0.29, 0.4, 1.0)
