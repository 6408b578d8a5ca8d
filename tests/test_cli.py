"""`python -m hgrl`: every command, and one line for every mistake."""

import subprocess

import pytest
import yaml
from conftest import SMALL_PARAMS, write_profile

from hgrl import __main__ as cli
from hgrl.core import paths
from hgrl.core.errors import InputError

COMMANDS = {
    "fetch": ["voc2012", "sbd", "--data", "folder", "--keep-archives"],
    "check-data": ["--data", "folder", "--profile", "paper", "--allow-partial"],
    "data": ["mini"],
    "notebook": ["07_ablations", "mini", "--run", "ours", "--runs", "all", "-p", "cns=5"],
    "trees": ["mini", "--grouping", "hed"],
    "train": ["mini", "ours", "--seed", "0"],
    "sweep": ["mini", "--cns", "5,20", "--sigma-p", "0.4"],
    "ablations": ["mini"],
    "tune": ["mini", "--methods", "moco,instfeat"],
    "tables": ["mini"],
    "extras": ["probe", "mini"],
    "convergence": ["mini"],
    "claims": ["mini"],
    "report": ["mini", "--html", "report.html"],
    "ship": ["mini", "ours", "--seed", "1"],
    "gallery": ["folder"],
    "readme": [],
    "hero": ["strip.png"],
    "repro": ["--quick", "--extras"],
    "profile": ["photos"],
    "group": [
        "a.jpg",
        "folder",
        "--out",
        "trees",
        "--preset",
        "best",
        "--workers",
        "2",
        "--hed",
        "hed.pt",
        "--pictures",
    ],
    "train-forest": [
        "--data",
        "BSDS500",
        "--out",
        "model",
        "--splits",
        "train",
        "--trees",
        "2",
        "--patches",
        "1000",
        "--seed",
        "1",
        "--workers",
        "2",
    ],
    "bsds-bench": [
        "results",
        "--data",
        "BSDS500",
        "--split",
        "val",
        "--kind",
        "ucm",
        "--thresholds",
        "9",
        "--workers",
        "1",
        "--out",
        "a.json",
    ],
    "train-hed": [
        "mini",
        "--out",
        "hed.pt",
        "--data",
        "BSDS500",
        "--splits",
        "train",
        "--imagenet",
        "vgg16.pth",
        "--width",
        "16",
        "--crop-size",
        "96",
    ],
    "train-pidinet": ["mini", "--out", "pidinet.pt", "--data", "BSDS500", "--size", "tiny"],
}


def fails(capsys, *arguments):
    """The one line on stderr of a command that fails."""
    assert cli.main(list(arguments)) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("hgrl: ")
    return lines[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_parses_and_explains_itself(name, capsys):
    assert callable(cli.parser().parse_args([name, *COMMANDS[name]]).command)
    with pytest.raises(SystemExit) as ended:
        cli.parser().parse_args([name, "--help"])
    assert ended.value.code == 0
    assert f"python -m hgrl {name}" in capsys.readouterr().out


def test_the_list_above_has_every_command(capsys):
    with pytest.raises(SystemExit):
        cli.parser().parse_args(["--help"])
    listed = [
        line.split()[0]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("    ") and not line.startswith("     ")
    ]
    assert listed == list(COMMANDS)


@pytest.mark.parametrize("arguments", ["", "grup", "data", "sweep mini --cns 5 --sigma-p much"])
def test_wrong_usage_is_exit_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments.split())
    assert ended.value.code == 2
    assert "usage: python -m hgrl" in capsys.readouterr().err


def test_an_interruption_says_that_the_command_can_go_on(monkeypatch, capsys):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "report", interrupted)
    assert cli.main(["report"]) == 130
    assert capsys.readouterr().err == "hgrl: interrupted; the same command goes on where this one stopped\n"


def test_an_error_of_several_lines_is_printed_as_one(monkeypatch, capsys):
    def failing(options):
        raise InputError("a.png: bad\n  very bad")

    monkeypatch.setattr(cli, "report", failing)
    assert fails(capsys, "report") == "hgrl: a.png: bad very bad"


def test_data_lists_the_sets(pipeline, capsys):
    assert cli.main(["data", "small"]) == 0
    found = [line.split(" files")[0] for line in capsys.readouterr().out.splitlines()]
    assert found == ["pretrain: 6", "scenes.train: 4", "scenes.val: 4", "labels: 4", "videos: 4"]


@pytest.mark.parametrize(
    "command", ["data smal", "tables smal", "sweep smal", "sweep smal --cns 5 --sigma-p 1", "profile smal"]
)
def test_an_unknown_profile_is_one_line(pipeline, capsys, command):
    assert "smal" in fails(capsys, *command.split())
    assert not (pipeline / "artifacts/smal").exists()


def test_a_mistyped_setting_of_a_profile_is_one_line(pipeline, capsys):
    write_profile(pipeline, {"pretrain.epoch": 3})
    assert "small.yaml: unknown setting 'pretrain.epoch'" in fails(capsys, "data", "small")


def test_a_missing_data_root_is_one_line(pipeline, capsys, monkeypatch):
    write_profile(pipeline, {"data.scenes": None})
    monkeypatch.setenv("HGRL_DATA", str(pipeline / "nowhere"))
    message = fails(capsys, "data", "small")
    assert str(pipeline / "nowhere") in message and "HGRL_DATA" in message


def test_a_sweep_cell_prints_its_score(pipeline, capsys):
    assert cli.main(["sweep", "small", "--cns", "0", "--sigma-p", "0.8"]) == 0
    assert "cns 0, sigma_p 0.8: mIoU " in capsys.readouterr().out
    assert (pipeline / "results/small/sweep/cns0-sigma0.8.json").exists()


@pytest.mark.parametrize("half", [["--cns", "5"], ["--sigma-p", "0.4"]])
def test_half_a_sweep_cell_is_one_line(pipeline, capsys, half):
    assert "both --cns and --sigma-p" in fails(capsys, "sweep", "small", *half)


def test_tables_without_scores_say_what_to_run(pipeline, capsys):
    message = fails(capsys, "tables", "small")
    assert str(pipeline / "results/small/metrics/probe.json") in message and "dvc repro" in message


def test_the_report_looks_what_is_there_and_says_how_to_make_the_rest(pipeline, capsys):
    assert cli.main(["report"]) == 0
    text = capsys.readouterr().out
    has, _, lacks = text.partition("lacks, and `python -m hgrl repro --profile small` makes")
    assert "notebooks" not in has and "results/small/tables/" in lacks and "results/small/metrics/" in lacks
    (pipeline / "results/small/tables").mkdir()
    (pipeline / "results/small/tables/table1.md").write_text("made")
    cli.main(["report"])
    assert "results/small/tables/" in capsys.readouterr().out.partition("lacks, and")[0]


@pytest.mark.parametrize(
    "before", ["profile: small # smoke | mini", "profile: my-own # kept", "profile:   small"]
)
def test_switching_the_profile_edits_that_line_alone(pipeline, capsys, before):
    rest = "# profile: of what\nruns: {a: {method: random}}  # profile: no\n"
    paths.PARAMS.write_text(f"# head\n{before}\n{rest}")
    write_profile(pipeline, name="other-one")
    assert cli.main(["profile", "other-one"]) == 0
    comment = before.partition(" #")[1:]
    assert paths.PARAMS.read_text() == f"# head\nprofile: other-one{''.join(comment)}\n{rest}"
    assert "other-one" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, made",
    [(["--quick"], "quick"), (["--profile", "other-one", "--extras"], "other-one extras"), ([], "small")],
)
def test_repro_makes_a_profile_and_leaves_the_current_one(pipeline, capsys, monkeypatch, arguments, made):
    write_profile(pipeline, name="other-one")
    write_profile(pipeline, name="quick")
    before, chosen = paths.PARAMS.read_bytes(), []

    def dvc(command, cwd, check):
        chosen.extend(command[3:])
        assert paths.PARAMS.read_bytes() == before
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr("hgrl.core.pipeline.subprocess.run", dvc)
    assert cli.main(["repro", *arguments]) == 0
    assert chosen == made.split() and paths.PARAMS.read_bytes() == before
    assert f"results/{chosen[0]}" in capsys.readouterr().out


def test_quick_and_a_profile_are_one_line(pipeline, capsys):
    assert "not both" in fails(capsys, "repro", "--quick", "--profile", "small")


@pytest.mark.parametrize("given", ["cns=abc", "sigma_p=-1", "cns"])
def test_a_notebooks_bad_parameter_is_one_line_before_a_kernel_starts(pipeline, capsys, monkeypatch, given):
    monkeypatch.setattr("hgrl.core.notebook._execute", lambda *arguments: pytest.fail("started"))
    message = fails(capsys, "notebook", "07_ablations", "small", "-p", given)
    assert given.partition("=")[0] in message


@pytest.mark.parametrize("given, make", [("make=False", False), ("make=True", True), ("cns=5", True)])
def test_a_notebooks_switch_is_no_text_and_is_on_unless_it_is_set(pipeline, monkeypatch, given, make):
    asked = {}
    monkeypatch.setattr(
        "hgrl.core.notebook.run_notebook", lambda name, experiment, parameters: asked.update(parameters)
    )
    assert cli.main(["notebook", "07_ablations", "small", "-p", given]) == 0
    assert asked.get("make", True) is make


def test_a_repro_that_fails_says_so_and_leaves_the_current_profile(pipeline, capsys, monkeypatch):
    write_profile(pipeline, name="quick")
    before = paths.PARAMS.read_bytes()
    monkeypatch.setattr(
        "hgrl.core.pipeline.subprocess.run",
        lambda command, cwd, check: subprocess.CompletedProcess(command, 3),
    )
    assert "dvc repro ended with status 3" in fails(capsys, "repro", "--quick")
    assert paths.PARAMS.read_bytes() == before


def test_switching_to_an_unknown_profile_changes_nothing(pipeline, capsys):
    before = paths.PARAMS.read_bytes()
    assert "choose one of: small" in fails(capsys, "profile", "other")
    assert paths.PARAMS.read_bytes() == before


def test_a_params_file_without_a_profile_line_is_one_line(pipeline, capsys):
    paths.PARAMS.write_text(yaml.safe_dump({"runs": SMALL_PARAMS["runs"]}))
    assert "no line 'profile: ...'" in fails(capsys, "profile", "small")
    assert "profile" in fails(capsys, "report")
