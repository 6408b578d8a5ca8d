"""What README.md, CONTRIBUTING.md, docs/ and results/README.md show must work as shown."""

import csv
import re
import shlex
import shutil
import subprocess

import pytest
import yaml
from conftest import SMALL_PARAMS

from hgrl.__main__ import parser
from hgrl.core import paths
from hgrl.core.errors import InputError
from hgrl.core.experiment import load_experiment
from hgrl.evaluation.stage import evaluate
from hgrl.pretraining.methods import REGISTRY
from hgrl.pretraining.stage import prepare
from hgrl.reporting import pages
from hgrl.reporting.tables import NOT_RUN

HOME = paths.HOME
PAGES = ["README.md", "CONTRIBUTING.md", "results/README.md"]
PAGES += sorted(f"docs/{path.name}" for path in (HOME / "docs").glob("*.md"))
TEXTS = {page: (HOME / page).read_text() for page in PAGES}
CONTRIBUTING = TEXTS["CONTRIBUTING.md"]
BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)


def code(page):
    """What a page shows as code: its blocks, line by line, and what stands between backticks."""
    lines = [line for _, block in BLOCK.findall(TEXTS[page]) for line in block.splitlines()]
    return lines + re.findall(r"`([^`\n]+)`", BLOCK.sub("", TEXTS[page]))


def anchors(path):
    """The fragments that a code host gives a page's headings."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(page):
    """The relative links of a page whose file or heading is not there."""
    dead = []
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
        name, _, fragment = link.partition("#")
        target = (page.parent / name) if name else page
        if not target.exists() or (fragment and fragment not in anchors(target)):
            dead.append(link)
    return dead


def test_the_readme_is_short():
    assert len(TEXTS["README.md"].encode()) <= 12_000


@pytest.mark.parametrize("page", PAGES)
def test_every_link_and_anchor_is_alive(page):
    assert not dead_links(HOME / page)


def test_a_dead_file_and_a_dead_anchor_are_found(tmp_path):
    (tmp_path / "b.md").write_text("# Two words\n")
    page = tmp_path / "a.md"
    page.write_text(
        "# A `b`: c\n[1](b.md) [2](b.md#two-words) [3](#a-b-c) [4](https://x.y) [5](c.md) [6](b.md#two)\n"
    )
    assert dead_links(page) == ["c.md", "b.md#two"]


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_is_named_is_there(page):
    named = [item for item in code(page) if re.fullmatch(r"(hgrl|benchmarks|notebooks|tests)/[\w/.]+", item)]
    assert not [item for item in named if not (HOME / item).exists()]


def test_the_layout_names_every_room_and_files_that_are_there():
    rows = re.findall(r"^\| `(hgrl/\w+/)` \|.*\| ([^|]+) \|$", TEXTS["docs/layout.md"], re.MULTILINE)
    rooms = {f"hgrl/{path.parent.name}/" for path in (HOME / "hgrl").glob("*/__init__.py")}
    assert {room for room, _ in rows} == rooms
    files = [HOME / room / name for room, names in rows for name in re.findall("`(.+?)`", names)]
    assert files and not [path for path in files if not path.exists()]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_known(page):
    for command in re.findall(r"-m hgrl ([^#;\n]+)", "\n".join(code(page))):
        if command.strip() != "--help":
            parser().parse_args(shlex.split(command))  # exits where the command or an option is unknown


def test_every_make_target_is_known():
    targets = set(re.findall(r"^([\w-]+):", (HOME / "Makefile").read_text(), re.MULTILINE))
    lines = "\n".join(line for page in PAGES for line in code(page))
    shown = set(re.findall(r"^make ([\w-]+)", lines, re.MULTILINE))
    assert {"repro", "quick", "test", "lint", "lab"} <= shown <= targets


@pytest.fixture
def example(monkeypatch):
    """CONTRIBUTING's method, registered by its line; its name."""
    blocks, namespace = BLOCK.findall(CONTRIBUTING), {}
    source = next(block for language, block in blocks if language == "python" and "class " in block)
    exec(compile(source, "CONTRIBUTING.md", "exec"), namespace)
    name, method = re.search(r'"(\w+)": (\w+),', CONTRIBUTING).groups()
    monkeypatch.setitem(REGISTRY, name, namespace[method])
    return name


def test_the_example_run_is_trained_and_scored_like_every_other(pipeline, example):
    definition = next(block for language, block in BLOCK.findall(CONTRIBUTING) if language == "yaml")
    runs = SMALL_PARAMS["runs"] | yaml.safe_load(definition)
    paths.PARAMS.write_text(yaml.safe_dump(SMALL_PARAMS | {"runs": runs}))
    experiment = load_experiment("small")
    prepare(experiment, example)
    scores = {stage: evaluate(stage, experiment, example)[example][0] for stage in ("probe", "retrieval")}
    assert scores["probe"]["scenes"].keys() == {"linear-backbone", "linear-embedding"}
    assert scores["retrieval"]["scenes"].keys() == {"embedding", "backbone"}


def test_the_pages_show_the_committed_results():
    changed = subprocess.run(
        ["git", "status", "--porcelain", "results"], cwd=HOME, capture_output=True, text=True
    )
    if changed.returncode != 0 or changed.stdout.strip():
        pytest.skip("results made here are not committed: `python -m hgrl readme` writes them into the pages")
    for page, contents in pages.generated().items():
        for name, content in contents.items():
            assert content and content in (HOME / page).read_text(), (
                f"{page}, {name}: run `python -m hgrl readme`"
            )


def test_a_page_without_its_markers_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "HOME", tmp_path)
    monkeypatch.setattr(pages, "generated", lambda: {"README.md": {"one": "1", "two": "2"}})
    (tmp_path / "README.md").write_text("a\n<!-- one -->\nold\n<!-- end -->\nb\n")
    with pytest.raises(InputError, match="<!-- two -->"):
        pages.update_readme()
    assert "old" in (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").write_text("a\n<!-- one -->\nold\n<!-- end -->\n<!-- two -->\n<!-- end -->\n")
    pages.update_readme()
    assert (
        tmp_path / "README.md"
    ).read_text() == "a\n<!-- one -->\n1\n<!-- end -->\n<!-- two -->\n2\n<!-- end -->\n"


@pytest.mark.parametrize(("cells", "shown"), [
    (("14.41", "0.26", "3"), "14.41 ± 0.26"),
    (("24.81", "0.00", "1"), "24.81"),
    (("-", "-", "3"), "-"),
    (("not run", "not run", "not run"), "not run"),
])  # fmt: skip
def test_a_deviation_is_shown_only_of_what_has_one(cells, shown):
    row = dict(zip(("miou_mean", "miou_std", "seeds"), cells, strict=True))
    assert pages.shown(row, "miou") == pages.shown(row | {"extras": "-"}, "miou") == shown
    assert pages.shown(row | {"extras": "further heads"}, "miou") == shown
    assert pages.shown(row | {"extras": "2026-11-21"}, "miou") == f"{shown} (extras)"


def test_photographs_lead_the_readme_with_a_column_for_each_set(tmp_path, monkeypatch):
    before = pages.headlines().splitlines()[0]
    shutil.copytree(HOME / "profiles", tmp_path / "profiles")
    shutil.copytree(HOME / "results/mini/tables", tmp_path / "results/photos/tables")
    shutil.copytree(HOME / "results/mini/tables", tmp_path / "results/mini/tables")
    shutil.copy(HOME / "params.yaml", tmp_path)
    monkeypatch.setattr(paths, "HOME", tmp_path)
    monkeypatch.setattr(paths, "PARAMS", tmp_path / "params.yaml")
    (tmp_path / "results/mini/summary.json").unlink(missing_ok=True)
    (tmp_path / "results/photos/summary.json").write_text('{"probe": {"voc": {}, "msrc": {}}}')
    cells = [cell.strip() for cell in pages.headlines().splitlines()[0].strip("|").split("|")]
    assert cells[1:3] == ["probe, mIoU: paper", "tracking, J: paper"]
    assert cells[3:] == ["probe: photos, msrc", "probe: photos, voc", "J: photos", "probe: mini", "J: mini"]
    assert before.count("paper") == 2
    table = tmp_path / "results/photos/tables/table1.csv"
    with table.open() as source:
        rows = list(csv.DictReader(source))
    for missing, shown in (("moco-long", True), ("segsort", False)):  # row by row; the race comes first
        with table.open("w") as target:
            writer = csv.DictWriter(target, [*rows[0]])
            writer.writeheader()
            writer.writerows(row | ({"miou_mean": NOT_RUN} if row["run"] == missing else {}) for row in rows)
        assert ("photos" in pages.headlines()) == shown


def test_the_readmes_rows_are_scored_in_a_profile():
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in pages.headlines().splitlines()]
    assert len(table) == 2 + 8 and all(any(cell[:1].isdigit() for cell in row[3:]) for row in table[2:])
