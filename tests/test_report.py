"""`python -m hgrl report PROFILE`: a profile's results as one page, of smoke's made here in small."""

import csv
import json

import numpy as np
import pytest
from html_pages import Page
from PIL import Image

from hgrl import __main__ as cli
from hgrl.core import paths
from hgrl.core.files import write_json, write_text
from hgrl.reporting.report import chart

EVIL = "<script>alert(1)</script>"
FIGURES = {"mean": 16.62, "std": 0.55, "seeds": 3}
CLAIM = {
    "id": "1",
    "claim": f"Ours beats {EVIL}",
    "verdict": "holds",
    "why": "all of it",
    "extras": False,
    "ours": FIGURES,
    "theirs": FIGURES,
    "difference": 2.4,
    "interval_95": [1.6, 3.1],
    "paper": [46.51, 38.11],
    "paper_base": None,
    "runs": {"ours": "a", "theirs": ["b", "c"]},
}
ROW = {"method": "Ours", "run": "ours", "miou_mean": "12.94", "miou_std": "0.36", "seeds": "3"}
ROW |= {f"iou_{EVIL}": "1.00", "paper_miou": "46.51", "paper_epochs": "80"}


@pytest.fixture
def home(tmp_path, monkeypatch):
    for name in ("profiles", "notebooks"):
        (tmp_path / name).symlink_to(paths.HOME / name)
    (tmp_path / "params.yaml").write_bytes(paths.PARAMS.read_bytes())
    monkeypatch.setattr(paths, "HOME", tmp_path)
    monkeypatch.setattr(paths, "PARAMS", tmp_path / "params.yaml")
    return tmp_path


@pytest.fixture
def results(home):
    """results/smoke with a table, a claim, curves, a cell, a picture and an origin; no more."""
    folder = home / "results/smoke"
    (folder / "tables").mkdir(parents=True)
    with (folder / "tables/table1.csv").open("w") as file:
        writer = csv.DictWriter(file, list(ROW))
        writer.writeheader()
        writer.writerows([ROW, ROW | {"miou_mean": "not run", "miou_std": "not run", "seeds": "not run"}])
    write_json(folder / "claims.json", [CLAIM])
    write_text(folder / "pretraining/left-out.csv", "seed,step,loss\n")
    rows = [f"{seed},{step},{4 - step / 10}" for seed in (0, 1) for step in range(1, 9)]
    write_text(folder / "pretraining/ours.csv", "\n".join(["seed,step,loss", *rows]))
    write_json(folder / "convergence/ours.json", {"epochs": [1, 2], "miou_mean": [0.1, 0.2]})
    cell = {"method": "x", "overrides": {"sampling.cns": [5, 20]}, "miou_mean": 0.1375, "miou_std": 0.01}
    write_json(folder / "sweep/cns5.json", cell)
    origin = {"seconds": 90.0, "date": "2026-01-02", "processor": EVIL, "versions": {"torch": "2.14"}}
    write_json(folder / "sweep/cns5.origin.json", origin)
    (folder / "figures").mkdir()
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(folder / "figures/retrieval.png")
    return folder


def read(path):
    page = Page(path.read_text())
    page.assert_self_contained()
    return page


def test_a_report_holds_what_there_is_beside_the_papers_figures(results, home, capsys):
    assert cli.main(["report", "smoke"]) == 0
    path = home / "artifacts/smoke/report.html"
    assert capsys.readouterr().out.strip() == str(path)
    page = read(path)
    assert len(page.all("script")) == 1  # the hostile class and processor are text
    heads = page.texts["button"]
    assert heads[:4] == ["method", "run", "paper: miou", "miou"] and f"iou {EVIL}" in heads
    cells = [cell.replace("\xa0", " ") for cell in page.texts["td"]]
    assert {"12.94 ± 0.36", "46.51", "not run", CLAIM["claim"], "46.51 v. 38.11", "13.75 ± 1.00"} <= set(
        cells
    )
    assert {"+2.40 [+1.60, +3.10]", "a v. b - c", "sampling.cns [5, 20]", "1.5", EVIL} <= set(cells)
    assert [cell["class"] for cell in page.all("td") if "class" in cell] == ["good"]
    assert "No losses here: left-out." in "".join(page.texts["p"])
    assert len(page.all("svg")) == 2 and len(page.all("polyline")) == 3  # convergence; a loss of two seeds
    assert [image["alt"] for image in page.all("img")] == ["retrieval"]
    assert "lacks, and" in page.texts["pre"][0] and "without" not in cells


def test_what_is_missing_says_so(home, capsys):
    assert cli.main(["report", "smoke", "--html", str(home / "r.html")]) == 0
    text = (home / "r.html").read_text()
    page = read(home / "r.html")
    assert not page.all("table") and text.count("Nothing here yet") == 8  # three tables and five sections
    assert "seeds: [0, 1]" in "".join(page.texts["pre"])


def test_a_file_that_is_no_report_is_left_alone(results, home, capsys):
    (home / "mine.html").write_text("mine")
    assert cli.main(["report", "smoke", "--html", str(home / "mine.html")]) == 1
    assert "left alone" in capsys.readouterr().err and (home / "mine.html").read_text() == "mine"


def test_damaged_results_are_one_line(results, home, capsys):
    (results / "claims.json").write_text(json.dumps([{"id": "1"}]))
    assert cli.main(["report", "smoke"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "its claims are damaged" in lines[0]
    assert not (home / "artifacts/smoke/report.html").exists()


def test_a_chart_fits_its_frame_and_leaves_out_what_is_no_number():
    x = np.arange(1000.0)
    y = np.where(x == 500, np.nan, x**2)
    page = Page(chart("<a>", {"<b>": (x, y), "one": (x[:1], y[:1])}))
    long, short = ([pair.split(",") for pair in line["points"].split()] for line in page.all("polyline"))
    assert 200 < len(long) <= 240 and len(short) == 1
    across, down = np.array(long, float).T
    assert across.min() == 44 and across.max() == 312 and (np.diff(down) <= 0).all() and down.min() >= 8
    assert "no figures" in chart("empty", {}) and "no figures" in chart(
        "empty", {"a": (x[:1], x[:1] * np.nan)}
    )
