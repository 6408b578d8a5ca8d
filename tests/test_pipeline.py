"""The pipeline's files agree with the code: one source for versions, dependencies, runs and table rows."""

import ast
import json
import re
from pathlib import Path

import pytest
import yaml

from hgrl.core.cache import imported_modules
from hgrl.core.experiment import load_experiment, load_params
from hgrl.core.loading import load_yaml
from hgrl.evaluation.features import BASELINES
from hgrl.evaluation.networks import PRETRAINED, UNTRAINED
from hgrl.evaluation.tracking import TRACKERS
from hgrl.pretraining.methods import REGISTRY
from hgrl.reporting.tables import ROWS

HOME = Path(__file__).resolve().parents[1]
PROFILES = ["smoke", "quick", "mini", "photos", "paper"]
STAGES = yaml.safe_load((HOME / "dvc.yaml").read_text())["stages"]
EXTRAS = yaml.safe_load((HOME / "extras/dvc.yaml").read_text())["stages"]
ALL = STAGES | {f"extras/{name}": stage for name, stage in EXTRAS.items()}
PARAMS = load_params()
RUNS = load_experiment("mini").definitions
# what computes a stage without a notebook; a notebook's own imports say it of the others
MODULES = {
    "data": "hgrl.data.stage",
    "hed": "hgrl.grouping.stage",
    "grouping-hed": "hgrl.grouping.stage",
    "claims": "hgrl.reporting.claims",
    "tables": "hgrl.reporting.tables",
    **{f"extras/{stage}": "hgrl.evaluation.extras" for stage in ("probe", "retrieval", "tracking")},
    "extras/claims": "hgrl.reporting.claims",
    "extras/convergence": "hgrl.evaluation.convergence",
    "extras/sweep": "hgrl.evaluation.trials",
    "extras/ablations": "hgrl.evaluation.trials",
}


def notebook_of(stage):
    match = re.search(r"hgrl notebook (\S+)", ALL[stage]["cmd"])
    return HOME / f"notebooks/{match[1]}.ipynb" if match else None


def imports_of(notebook):
    """The modules of the package that a notebook's cells import from."""
    cells = [
        "".join(cell["source"])
        for cell in json.loads(notebook.read_text())["cells"]
        if cell["cell_type"] == "code"
    ]
    nodes = [
        node for cell in cells for node in ast.walk(ast.parse(re.sub(r"^%.*", "", cell, flags=re.MULTILINE)))
    ]
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module.startswith("hgrl."):
            for name in (f"{node.module}.{alias.name}" for alias in node.names):
                file = HOME / name.replace(".", "/")
                yield name if file.is_dir() or file.with_suffix(".py").exists() else node.module


@pytest.mark.parametrize("stage", ALL)
def test_every_module_that_a_stage_computes_with_lies_in_a_room_it_depends_on(stage):
    notebook = notebook_of(stage)
    roots = set(imports_of(notebook)) if notebook else {MODULES[stage]}
    rooms = {
        dep.removeprefix("hgrl/").replace("/", ".") for dep in ALL[stage]["deps"] if dep.startswith("hgrl/")
    }
    assert "core" in rooms  # the plumbing, which `imported_modules` leaves out
    for module in imported_modules(*roots):
        assert any(f"{module}.".startswith(f"hgrl.{room}.") for room in rooms), (
            f"{stage} does not depend on {module}"
        )


def test_every_stage_with_a_notebook_runs_it_and_depends_on_it():
    ran = set()
    for stage in STAGES.values():
        if match := re.search(r"hgrl notebook (\S+)", stage["cmd"]):
            assert f"notebooks/{match[1]}.ipynb" in stage["deps"]
            ran.add(match[1])
    assert ran == {path.stem for path in (HOME / "notebooks").glob("*.ipynb")}
    assert len(ran) == 7


def swap(stage, texts):
    written = yaml.safe_dump(stage)
    for old, new in texts.items():
        written = written.replace(old, new)
    return yaml.safe_load(written)


def places(stage, *kinds):
    """What a stage lists under each kind, without the options."""
    listed = [entry for kind in kinds for entry in stage.get(kind, ())]
    return {next(iter(entry)) if isinstance(entry, dict) else entry for entry in listed}


def test_extras_are_trained_as_the_others_are():
    swapped = swap(
        STAGES["pretraining"], {"/checkpoints": "/extras/checkpoints", "${trained}": "${extras.trained}"}
    )
    assert EXTRAS["pretraining"] == swapped | {"wdir": ".."}


def test_no_other_stage_needs_what_the_extras_make():
    """DVC makes whatever lies at, above or below a dependency first; and no file has two makers."""
    made = set().union(*(places(stage, "outs", "metrics", "plots") for stage in EXTRAS.values()))
    needed = set().union(*(places(stage, "deps") for stage in STAGES.values()))
    outs = set().union(*(places(stage, "outs", "metrics", "plots") for stage in STAGES.values()))
    runs = {"${item.run}": "one"}, {"${item.run}": "another"}
    made, outs = (
        {path.replace(*next(iter(r.items()))) for path in paths}
        for paths, r in zip((made, outs), runs, strict=True)
    )
    for path in made:
        for other in needed | outs:
            assert not f"{path}/".startswith(f"{other}/") and not f"{other}/".startswith(f"{path}/"), other
    assert "results/${item.profile}/metrics" in places(STAGES["tables"], "deps") & places(
        STAGES["claims"], "deps"
    )


def test_extras_are_no_rows_of_the_papers_tables():
    extra = {(stage, name) for stage, names in PARAMS["extras"].items() for name in names}
    for table, stage in {"table1": "probe", "table2": "retrieval", "table3": "tracking"}.items():
        for row in load_yaml(ROWS)[table]["paper"]:
            for run in {row["run"], row.get("stand_in")} - {None}:
                start = RUNS[run].checkpoint_of or run
                assert (stage, run) not in extra and ("trained", start) not in extra
                assert run in PARAMS[stage]


def test_runs_of_other_trees_have_the_stages_of_the_plain_ones_with_those_trees():
    plain, other = STAGES["pretraining"], STAGES["pretraining-hed"]
    swapped = swap(plain, {"/trees": "/trees-hed", "${trained}": "${trained_hed}"})
    profile = next(iter(other["params"][1].values()))
    profile.remove("groupings")
    assert other == swapped
    assert {"artifacts/${item.profile}/trees-hed": {"persist": True}} in STAGES["grouping-hed"]["outs"]
    assert "artifacts/${item.profile}/hed" in STAGES["grouping-hed"]["deps"]


@pytest.mark.parametrize("profile", PROFILES)
def test_runs_name_the_grouping_whose_stage_they_depend_on(profile):
    experiment = load_experiment(profile)
    for name, run in RUNS.items():
        settings = experiment.run(name).settings
        assert (
            (settings.grouping.edges == "hed")
            == (run.grouping == "hed")
            == ((run.checkpoint_of or name) in PARAMS["trained_hed"])
        )


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_is_valid_for_every_run(profile):
    experiment = load_experiment(profile)
    assert experiment.profile == profile and all(experiment.run(name).settings for name in RUNS)


COUNTED = [f"{method}-{split}" for method in ("ours", "moco", "instfeat") for split in ("single", "many")]


@pytest.mark.parametrize("profile", ["smoke", "mini"])
def test_runs_on_one_and_on_many_objects_have_trees_and_equally_many_steps(profile):
    experiment, sources = load_experiment(profile), set()
    own = experiment.settings
    steps = own.pretrain.run_epochs * (own.data.scenes.unlabelled // own.pretrain.batch)
    for name in COUNTED:
        settings = experiment.run(name).settings
        sources |= {*settings.data.pretrain}
        counted = settings.pretrain.run_epochs * (settings.data.scenes.objects // settings.pretrain.batch)
        assert counted == {"smoke": 12, "mini": 400}[profile] and 0.75 <= counted / steps <= 1.25
    assert sources == set(own.data.extra)


def test_the_stand_ins_for_pascal_alone_train_for_as_large_a_share_of_the_steps():
    experiment = load_experiment("mini")
    paper, own = 400 * 10_582 / (80 * 93_365), experiment.settings
    images, batch = own.data.scenes.unlabelled, own.pretrain.batch
    for name in ("moco-small", "ours-cns5-small"):
        settings = experiment.run(name).settings
        steps = settings.pretrain.run_epochs * (round(settings.data.fraction * images) // batch)
        assert steps / (own.pretrain.run_epochs * (images // batch)) == pytest.approx(paper, rel=0.05)


def test_listed_runs_are_defined_and_their_methods_known():
    runs, extras = RUNS, PARAMS["extras"]
    assert {run.method for run in runs.values()} <= {*REGISTRY, *BASELINES, *TRACKERS, UNTRAINED, PRETRAINED}
    assert not {*PARAMS["trained"]} & {*PARAMS["trained_hed"]}
    trained = {*PARAMS["trained"], *PARAMS["trained_hed"], *extras["trained"]}
    assert all(runs[name].method in REGISTRY and not runs[name].checkpoint_of for name in trained)
    scored = [
        runs[name]
        for stage in ("probe", "retrieval", "tracking")
        for name in (*PARAMS[stage], *extras[stage])
    ]
    assert {
        run.checkpoint_of or name for name, run in runs.items() if run in scored and run.method in REGISTRY
    } <= trained


def test_profiles_have_every_section_that_dvc_tracks():
    for stage in ALL.values():
        for tracked in stage.get("params", []):
            for file, sections in tracked.items() if isinstance(tracked, dict) else ():
                for profile in ("smoke", "quick", "mini", "photos", "paper"):
                    content = load_yaml(HOME / file.replace("${item.profile}", profile))
                    assert set(sections) <= content.keys(), (profile, sections)


def test_dvc_tracks_the_settings_of_every_method():
    tracked = next(entry for entry in STAGES["pretraining"]["params"] if isinstance(entry, dict))
    sections = set(tracked["profiles/${item.profile}.yaml"])
    assert {section for method in REGISTRY.values() for section in method.sections} | {
        "network",
        "augment",
        "pretrain",
    } <= sections


def test_curves_are_of_runs_that_train():
    runs = RUNS
    assert all(
        runs[name].method in REGISTRY and not runs[name].checkpoint_of
        for name in PARAMS["extras"]["convergence"]
    )


@pytest.mark.parametrize("profile", ["smoke", "mini", "photos", "paper"])
def test_curves_read_a_probe_that_the_profile_knows_and_end_at_the_runs_end(profile):
    settings = load_experiment(profile).settings
    heads = (*settings.probe.heads, *settings.extra_heads)
    assert settings.convergence.head in heads and settings.convergence.shares[-1] == 1
    assert list(settings.convergence.shares) == sorted(set(settings.convergence.shares))


def test_the_sweeps_grid_has_the_papers_setting_among_its_cells():
    sampling = load_experiment("paper").settings.sampling
    assert sampling.sigma_p in PARAMS["sweep"]["sigma_p"] and {*sampling.cns} <= {*PARAMS["sweep"]["cns"]}


def test_the_ablations_notebook_waits_for_the_verdicts_and_the_curves():
    assert {"results/${item.profile}/claims.json", "results/${item.profile}/metrics"} <= set(
        STAGES["ablations"]["deps"]
    )
    assert {"artifacts/${item.profile}/scores/probe": {"persist": True}} in STAGES["probe"]["outs"]
    assert "results/${item.profile}/probe" in STAGES["claims"]["deps"]


def test_table_rows_name_runs_that_exist():
    for table in load_yaml(ROWS).values():
        for row in (*table["paper"], *table["extra"]):
            assert row["run"] is None or row["run"] in RUNS
            assert row.get("stand_in") is None or row["stand_in"] in RUNS


def test_paper_tables_have_all_of_the_papers_rows():
    tables = load_yaml(ROWS)
    assert [len(tables[name]["paper"]) for name in ("table1", "table2", "table3")] == [17, 3, 10]
    assert [row["paper_miou"] for row in tables["table1"]["paper"]] == [
        12.99, 45.43, 70.54, 65.53, 51.02, 64.70, 38.11, 36.15, 42.07,
        47.01, 46.51, 48.82, 32.04, 43.51, 44.92, 45.57, 39.63,
    ]  # fmt: skip


@pytest.mark.parametrize("path", sorted((HOME / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_committed_without_outputs_and_teach(path):
    notebook = json.loads(path.read_text())
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    prose = [cell for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    assert len(prose) >= len(code)
    assert sum("parameters" in cell["metadata"].get("tags", []) for cell in code) == 1
    for cell in code:
        source = "".join(cell["source"])
        assert not cell["outputs"] and cell["execution_count"] is None
        assert sum(bool(line.strip()) for line in source.splitlines()) <= 15
    assert any("assert" in "".join(cell["source"]) for cell in code)


def test_every_row_of_table_1_can_be_made_of_real_photographs():
    """On their own data where the paper has other, and on trees that are grown for these."""
    experiment = load_experiment("photos")
    for row in load_yaml(ROWS)["table1"]["paper"]:
        runs = [run for run in (row["run"], row.get("stand_in")) if run and run != "imagenet"]
        named = {run for run in runs if "photos" in (RUNS[run].profiles or ("photos",))}
        assert named and not {*experiment.settings.without} & named, row["method"]
    told, data = experiment.settings.stand_in, experiment.settings.data
    assert {*told} == {"PASCAL", "COCO", "ImageNet"}
    for run in ("moco-imagenet", "ours-imagenet", "ours-image-imagenet", "moco-pascal", "ours-cns5-pascal"):
        sources = experiment.run(run).settings.data.pretrain
        assert {*sources} <= {*data.pretrain, *data.extra} and sources != data.pretrain
