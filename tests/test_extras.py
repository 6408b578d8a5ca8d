"""Extras: a plain run leaves them alone, tables and claims show the committed ones, and say so."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hgrl.core import paths

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
