"""The files around the package: declared and locked dependencies, the environment, CI, the citation."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

from hgrl.reporting.figures.output import OF_A_RUN, SHOWN_RUN

HOME = Path(__file__).resolve().parents[1]
PYPROJECT = (HOME / "pyproject.toml").read_text()
LOCK = (HOME / "requirements.lock").read_text() + (HOME / "requirements-pages.lock").read_text()
PROJECT = tomllib.loads(PYPROJECT)["project"]


def test_conda_installs_the_lock_and_nothing_else():
    environment = yaml.safe_load((HOME / "environment.yml").read_text())
    conda = [item for item in environment["dependencies"] if isinstance(item, str)]
    pip = next(item["pip"] for item in environment["dependencies"] if isinstance(item, dict))
    assert pip == ["--require-hashes", "-r requirements.lock"]
    assert {re.split("[=<>]", name)[0] for name in conda} == {"python", "pip"}


def _name(requirement):
    return re.split("[=<>]", requirement)[0]


def _declared(*extras):
    listed = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] for extra in extras)]
    return {_name(requirement) for requirements in listed for requirement in requirements}


@pytest.mark.parametrize("name", sorted(_declared(*PROJECT["optional-dependencies"])))
def test_every_dependency_has_a_reason_beside_it_and_is_locked_with_hashes(name):
    reason = rf'^    "{re.escape(name)}[=<>][^"]*", # \w.+$'
    assert re.search(reason, PYPROJECT, re.MULTILINE), "give its reason beside it in pyproject.toml"
    locked = rf"^{re.escape(name)}==\S+ .*\\\n    --hash=sha256:"
    assert re.search(locked, LOCK, re.MULTILINE), "run `make lock`"


def _imported(folder):
    """Top-level modules of other projects that the files of a folder import."""
    names, files = set(), list((HOME / folder).rglob("*.py"))
    for node in (node for path in files for node in ast.walk(ast.parse(path.read_text()))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module)
    own = {"hgrl", *(path.stem for path in files)}
    return {name.partition(".")[0] for name in names} - own - sys.stdlib_module_names


def _normalised(names):
    return {re.sub("[-_.]+", "-", name.lower()) for name in names}


@pytest.mark.parametrize(
    ("folder", "extras"),
    [("hgrl", ()), ("benchmarks", ["test"]), ("book", ["book"]), ("tests", ["test", "browser"])],
)
def test_what_is_imported_is_declared(folder, extras):
    packages, declared = packages_distributions(), _normalised(_declared(*extras))
    undeclared = {
        name for name in _imported(folder) if not _normalised(packages.get(name, [name])) & declared
    }
    assert not undeclared


def test_the_lock_names_no_registry():
    assert not re.search(r"https?://|file:|--(index|extra-index|find-links)", LOCK)


def test_the_same_gate_runs_everywhere():
    workflow = yaml.safe_load((HOME / ".github/workflows/ci.yml").read_text())
    steps = workflow["jobs"]["gate"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == [".ci/run"]
    gate = (HOME / ".ci/run").read_text()
    assert gate.index("\nmake lint") < gate.index("\nmake test")
    hooks = yaml.safe_load((HOME / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert [hook["entry"].split()[0] for hook in hooks] == ["ruff", "ruff"]


def test_the_paper_is_cited():
    citation = yaml.safe_load((HOME / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["version"] == PROJECT["version"] and citation["license"] == PROJECT["license"]
    authors = [author["family-names"] for author in citation["preferred-citation"]["authors"]]
    assert authors == ["Zhang", "Maire"]


@pytest.mark.parametrize("folder", ["hgrl", "tests", "benchmarks", "book"])
def test_files_and_functions_stay_short(folder):
    for path in (HOME / folder).rglob("*.py"):
        text = path.read_text()
        assert text.count("\n") <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 60, f"{path}: {node.name}"


def test_the_package_stays_small():
    entries = [path.name for path in (HOME / "hgrl").iterdir() if path.name != "__pycache__"]
    assert len([name for name in entries if not name.startswith("__")]) <= 10
    # 12,000 before table 3's trackers, the two successors, PiDiNet, the pages and what notebooks draw
    assert sum(path.read_text().count("\n") for path in (HOME / "hgrl").rglob("*.py")) <= 18_000


ROOMS = ["core", "data", "metrics", "grouping", "sampling", "pretraining", "evaluation", "reporting"]


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_one_way_through_the_rooms(room):
    above = {
        *ROOMS[ROOMS.index(room) + 1 :],
        *({"data", "metrics"} - {room} if room in ("data", "metrics") else ()),
    }
    for path in (HOME / "hgrl" / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("hgrl."):
                names = {node.module.split(".")[1]} if node.module.count(".") else set()
                assert not names & above, f"{path} imports {node.module}"


@pytest.mark.parametrize("module", ["hgrl.data.stage", "hgrl.metrics.bsds", "hgrl.grouping.stage"])
def test_data_metrics_and_grouping_need_no_torch(module):
    program = f"import sys, {module}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=HOME)


def test_committed_pictures_are_small_and_all_shown():
    listed = subprocess.run(
        ["git", "ls-files", "results/*/figures/*"], cwd=HOME, capture_output=True, text=True
    )
    pictures = [HOME / name for name in listed.stdout.split() if (HOME / name).exists()]
    assert pictures and not [path for path in pictures if path.stat().st_size > 400_000]
    assert sum(path.stat().st_size for path in pictures) < 6_000_000
    assert {path.stem for path in pictures if path.stem.startswith(OF_A_RUN)} <= {SHOWN_RUN}
