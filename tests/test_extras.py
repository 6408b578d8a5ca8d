"""Extras: a plain run leaves them alone, tables and claims show the committed ones, and say so."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import SMALL_PARAMS, change_profile

from hgrl import __main__ as cli
from hgrl.core import paths
from hgrl.core.errors import InputError
from hgrl.core.experiment import load_experiment
from hgrl.core.files import read_json
from hgrl.evaluation.stage import evaluate

HOME = Path(__file__).resolve().parents[1]
# stands for `python -m hgrl`: notes what it is asked to make, and makes it of what is there
MAKER = """
import sys
from pathlib import Path

name, *made = sys.argv[1:]
with open("made.txt", "a") as file:
    file.write(name + "\\n")
for path in map(Path, made):
    if path.suffix:
        path.parent.mkdir(parents=True, exist_ok=True)
    else:
        path.mkdir(parents=True, exist_ok=True)
        path /= "content.txt"
    path.write_text(name)
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The repository's two pipelines with a command that only notes, in a folder of its own."""
    (tmp_path / "make.py").write_text(MAKER)
    for file in ("dvc.yaml", "extras/dvc.yaml"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(with_maker(yaml.safe_load((HOME / file).read_text())))
    params = yaml.safe_load((HOME / "params.yaml").read_text()) | {"profile": "smoke"}
    lists = {"trained": ["moco", "ours-cns5"], "trained_hed": ["ours-hed"]}
    extras = params["extras"] | {"trained": ["densecl", "ours-cns20"]}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params | lists | {"extras": extras}))
    shutil.copytree(HOME / "profiles", tmp_path / "profiles")
    for room in (HOME / "hgrl").glob("*/__init__.py"):
        (tmp_path / "hgrl" / room.parent.name / "figures").mkdir(parents=True)
    for notebook in (HOME / "notebooks").glob("*.ipynb"):
        (tmp_path / "notebooks").mkdir(exist_ok=True)
        (tmp_path / "notebooks" / notebook.name).write_text("{}")
    environment = os.environ | {"HGRL_HOME": str(tmp_path), "PYTHONPATH": str(HOME)}
    run = {"cwd": tmp_path, "env": environment, "check": True, "capture_output": True, "text": True}
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet"], **run)

    def repro(*extras):
        """What `python -m hgrl repro --profile smoke` makes."""
        noted = tmp_path / "made.txt"
        noted.unlink(missing_ok=True)
        subprocess.run([sys.executable, "-m", "hgrl.core.pipeline", "smoke", *extras], **run)
        return noted.read_text().split() if noted.exists() else []

    return repro


def with_maker(pipeline):
    for name, stage in pipeline["stages"].items():
        entries = [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, ())]
        made = [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]
        extra = "wdir" in stage
        if extra and name != "pretraining":  # what it publishes, which is no `out`
            made.append(f"results/${{item.profile}}/metrics/extras/{name}.json")
        if name == "data":
            made.append("artifacts/${item.profile}/data/manifest.json")
        stage["cmd"] = " ".join(["python make.py", f"extras/{name}" if extra else name, *made])
    return yaml.safe_dump(pipeline)


def test_dvc_leaves_the_extras_alone_until_they_are_asked_for(project):
    plain = project()
    assert {"pretraining", "probe", "tables", "claims", "ablations"} <= {*plain}
    assert not [name for name in plain if name.startswith("extras/")]
    made = project(paths.EXTRAS)
    extras = [name for name in made if name.startswith("extras/")]
    assert sorted(extras) == [
        *("extras/ablations", "extras/claims", "extras/convergence", "extras/pretraining"),
        *("extras/pretraining", "extras/probe", "extras/retrieval", "extras/sweep", "extras/tracking"),
    ]
    # what reads the committed figures is made of the new ones, after them, and nothing else is made again
    assert sorted(made[len(extras) :]) == ["ablations", "claims", "tables"]
    assert project(paths.EXTRAS) == project() == []


@pytest.fixture
def small(pipeline):
    """The profile `small` with a run of its own in the extras, a further head, and a plain probe made."""
    change_profile(pipeline, {"extra_heads": ["linear-embedding"], "probe.heads": ["linear-backbone"]})
    extras = {"probe": ["position"], "tracking": ["lab"]}
    probe = ["random", "random-e2e", "ours"]
    paths.PARAMS.write_text(yaml.safe_dump(SMALL_PARAMS | {"probe": probe, "extras": extras}))
    evaluate("probe", load_experiment("small"))
    return load_experiment("small")


def test_extras_are_scored_beside_what_a_plain_run_scores(small, scored, capsys):
    plain = small.files.metrics("probe").read_bytes()
    assert cli.main(["extras", "probe", "small"]) == 0
    assert "results/small/metrics/extras/probe.json" in capsys.readouterr().out
    metrics = read_json(small.files.extras.metrics("probe"))
    heads = {run: [*metrics[run]["scenes"]] for run in metrics}
    # the further head on what is frozen; the upper bound has its own
    embedded = {"ours": ["linear-embedding"], "random": ["linear-embedding"]}
    assert heads == {"position": ["linear-backbone"], **embedded}
    assert (small.files.results / "extras/probe/position.origin.json").exists()
    assert small.files.metrics("probe").read_bytes() == plain
    assert not (small.files.results / "probe/position.json").exists()
    made = len(scored)
    assert cli.main(["extras", "probe", "small"]) == 0 and len(scored) == made  # all are read again
    assert cli.main(["extras", "retrieval", "small"]) == 0  # none is listed
    assert read_json(small.files.extras.metrics("retrieval")) == {}


def test_extras_that_are_trained_have_folders_of_their_own(small):
    params = yaml.safe_load(paths.PARAMS.read_text())
    params["extras"]["trained"] = ["moco"]
    paths.PARAMS.write_text(yaml.safe_dump(params))
    files = load_experiment("small").files
    assert files.checkpoint("moco", 0).relative_to(files.artifacts).parts[:2] == ("extras", "checkpoints")
    assert files.extras.checkpoint("ours", 0) == files.checkpoint("ours", 0)
    assert files.extras.manifest == files.manifest and files.extras.trees() == files.trees()


@pytest.mark.parametrize(("extras", "problem"), [
    ({"probes": ["ours"]}, "unknown key 'extras.probes'"),
    ({"probe": ["theirs"]}, "section 'extras.probe' lists 'theirs', which 'runs' does not define"),
    ({"probe": ["ours"]}, "'ours' is listed for 'probe', and in its extras too"),
])  # fmt: skip
def test_a_mistake_in_the_extras_is_one_line(pipeline, extras, problem):
    paths.PARAMS.write_text(yaml.safe_dump(SMALL_PARAMS | {"extras": extras}))
    with pytest.raises(InputError, match=problem):
        load_experiment("small")


def test_a_profile_overrides_a_run_and_gives_it_seeds(pipeline):
    own = {"sampling.cns": [7], "pretrain.epochs_factor": 2}
    change_profile(pipeline, {"more_seeds": {"ours": [3, 4]}, "runs": {"ours": own}})
    run = load_experiment("small").run("ours")
    assert run.settings.seeds == (0, 1, 3, 4) and run.settings.sampling.cns == (7,)
    assert load_experiment("small").run("moco").settings.seeds == (0, 1)
    change_profile(pipeline, {"more_seeds": {"ours": [1]}})
    with pytest.raises(InputError, match=r"more_seeds.ours: setting 'seeds'.*1 stands there twice"):
        load_experiment("small").run("ours")
    change_profile(pipeline, {"more_seeds": {}, "runs": {"theirs": {}}})
    with pytest.raises(InputError, match="setting 'runs': no run named 'theirs'"):
        load_experiment("small")
