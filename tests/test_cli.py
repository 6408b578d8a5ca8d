"""`python -m hgrl`: every command, and one line for every mistake."""

import subprocess
import sys

import numpy as np
import pytest
import yaml
from conftest import SMALL_PARAMS, write_profile
from PIL import Image

from hgrl import __main__ as cli
from hgrl.core import paths
from hgrl.core.errors import InputError
from hgrl.core.settings import ScenesSettings
from hgrl.data.scenes.draw import make_scenes
from hgrl.grouping import group as grouping
from hgrl.grouping.region_tree import RegionTree

COMMANDS = {
    "fetch": ["voc2012", "sbd", "--data", "folder", "--keep-archives"],
    "check-data": ["--data", "folder", "--profile", "paper", "--allow-partial"],
    "data": ["mini"],
    "notebook": ["07_ablations", "mini", "--run", "ours", "--runs", "all", "-p", "cns=5"],
    "trees": ["mini", "--grouping", "hed"],
    "train": ["mini", "ours", "--seed", "0"],
    "sweep": ["mini", "--cns", "5,20", "--sigma-p", "0.4"],
    "tune": ["mini", "--methods", "moco,instfeat"],
    "tables": ["mini"],
    "convergence": ["mini"],
    "claims": ["mini"],
    "report": [],
    "readme": [],
    "repro": ["--quick"],
    "profile": ["photos"],
    "group": ["a.jpg", "folder", "--out", "trees", "--preset", "best", "--workers", "2", "--hed", "hed.pt"],
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
    assert found == ["pretrain: 6", "probe_train: 4", "probe_val: 4", "videos: 4"]


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
    "arguments, made", [(["--quick"], "quick"), (["--profile", "other-one"], "other-one"), ([], "small")]
)
def test_repro_makes_a_profile_and_leaves_the_current_one(pipeline, capsys, monkeypatch, arguments, made):
    write_profile(pipeline, name="other-one")
    write_profile(pipeline, name="quick")
    before, chosen = paths.PARAMS.read_bytes(), []

    def dvc(command, cwd, check):
        chosen.append(command[-1])
        assert paths.PARAMS.read_bytes() == before
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr("hgrl.core.pipeline.subprocess.run", dvc)
    assert cli.main(["repro", *arguments]) == 0
    assert chosen == [made] and paths.PARAMS.read_bytes() == before
    assert f"results/{made}" in capsys.readouterr().out


def test_quick_and_a_profile_are_one_line(pipeline, capsys):
    assert "not both" in fails(capsys, "repro", "--quick", "--profile", "small")


@pytest.mark.parametrize("given", ["cns=abc", "sigma_p=-1", "cns"])
def test_a_notebooks_bad_parameter_is_one_line_before_a_kernel_starts(pipeline, capsys, monkeypatch, given):
    monkeypatch.setattr("hgrl.core.notebook._execute", lambda *arguments: pytest.fail("started"))
    message = fails(capsys, "notebook", "07_ablations", "small", "-p", given)
    assert given.partition("=")[0] in message


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


@pytest.fixture
def photos(tmp_path):
    """Ten odd images: eight that can be grouped, two that cannot be read."""
    folder, random = tmp_path / "photos", np.random.default_rng(0)
    folder.mkdir()
    colours = np.zeros((48, 64, 3), np.uint8)
    colours[:, 32:] = (200, 60, 40)
    colours = (colours + random.integers(0, 30, colours.shape)).astype(np.uint8)
    image = Image.fromarray(colours)
    image.save(folder / "good.png")
    image.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(colours[..., 0].astype(np.uint16) * 257).save(folder / "bits16.png")
    image.convert("L").save(folder / "grey.png")
    image.convert("RGBA").save(folder / "alpha.png")
    Image.new("RGB", (1, 1), "red").save(folder / "pixel.png")
    Image.new("RGB", (40, 40), "grey").save(folder / "constant.png")
    turned = Image.Exif()
    turned[274] = 6
    image.save(folder / "turned.jpg", exif=turned)
    (folder / "text.jpg").write_text("no image")
    (folder / "cut.png").write_bytes((folder / "good.png").read_bytes()[:200])
    return folder


def test_an_unknown_preset_names_the_known_ones(capsys, tmp_path):
    message = fails(capsys, "group", str(tmp_path), "--out", str(tmp_path / "trees"), "--preset", "slow")
    assert "'slow'" in message and "fast, best" in message


def test_a_folder_with_odd_and_bad_images_is_grouped_as_far_as_it_can_be(photos, capsys, monkeypatch):
    out = photos / "trees"  # inside the folder: what is written there is not read as a photograph later
    arguments = ["group", str(photos), "--out", str(out)]
    assert cli.main(arguments) == 1
    output = capsys.readouterr()
    assert f"8 of 10 images have a region tree in {out}" in output.out
    bad = [line for line in output.err.splitlines() if line.startswith("hgrl: ")]
    assert [line.split(":")[1].strip() for line in bad] == ["photos/cut", "photos/text"]
    assert str(photos / "cut.png") in bad[0] and "not an image" in bad[1]
    shapes = {path.stem: RegionTree.load(path).labels.shape for path in out.rglob("*.npz")}
    same = dict.fromkeys(("good", "cmyk", "bits16", "grey", "alpha"), (48, 64))
    assert shapes == {**same, "pixel": (1, 1), "constant": (40, 40), "turned": (64, 48)}
    assert RegionTree.load(out / "photos/constant.npz").regions == 1
    assert RegionTree.load(out / "photos/good.npz").regions > 1
    assert not list(out.rglob("*.png"))

    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    monkeypatch.setattr(grouping, "region_tree", lambda image, *rest: pytest.fail("grouped again"))
    assert cli.main(arguments) == 1
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == before
    capsys.readouterr()


def test_good_images_alone_are_exit_status_0(photos, capsys):
    assert (
        cli.main(
            [
                "group",
                str(photos / "good.png"),
                str(photos / "grey.png"),
                "--out",
                str(photos.parent / "trees"),
            ]
        )
        == 0
    )
    assert "2 of 2 images" in capsys.readouterr().out


def test_workers_and_a_scheduler_are_not_given_together(capsys):
    places = ["--workers", "2", "--scheduler", "tcp://127.0.0.1:8786"]
    assert "not both" in fails(capsys, "group", "a.png", "--out", "trees", *places)


def test_an_out_that_is_a_file_is_one_line(photos, capsys):
    (photos.parent / "taken").write_text("")
    assert cli.main(["group", str(photos / "pixel.png"), "--out", str(photos.parent / "taken")]) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("hgrl: ") and "cannot be written" in message


def test_no_image_at_all_is_one_line(tmp_path, capsys):
    assert "no such file or folder" in fails(
        capsys, "group", str(tmp_path / "nowhere"), "--out", str(tmp_path / "trees")
    )


def test_as_a_program_it_exits_with_the_status(tmp_path):
    command = [sys.executable, "-m", "hgrl", "group", "nowhere.png", "--out", "trees"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "hgrl: nowhere.png: no such file or folder; give image files, or folders of them\n"


@pytest.fixture
def contours(tmp_path):
    """BSDS500's layout with two drawn scenes a split."""
    sizes = {
        "size": 48,
        "unlabelled": 0,
        "train": 0,
        "tune": 0,
        "val": 0,
        "videos": 0,
        "frames": 1,
        "contours": 2,
    }
    make_scenes(tmp_path / "scenes", ScenesSettings(**sizes))
    return tmp_path / "scenes/BSDS500"


def test_an_edge_network_is_trained_to_a_file_and_photographs_are_grouped_by_it(contours, photos, capsys):
    out = photos.parent / "hed.pt"
    small = ["--width", "2", "--iterations", "2", "--batch", "2", "--crop-size", "32", "--device", "cpu"]
    assert cli.main(["train-hed", "--data", str(contours), "--out", str(out), *small]) == 0
    said = capsys.readouterr().out
    assert (
        "trunk from scratch, 4 images, 2 steps" in said
        and f"next: python -m hgrl group PHOTOS --out TREES --hed {out}" in said
    )
    assert (
        cli.main(
            ["group", str(photos / "good.png"), "--out", str(photos.parent / "trees"), "--hed", str(out)]
        )
        == 0
    )
    assert [RegionTree.load(path).labels.shape for path in (photos.parent / "trees").rglob("good.npz")] == [
        (48, 64)
    ]
    capsys.readouterr()
    assert "taken" in fails(
        capsys,
        "train-hed",
        "--data",
        str(contours),
        "--out",
        str(photos.parent / "taken"),
        "--imagenet",
        "taken",
        *small,
    )


@pytest.mark.parametrize(("arguments", "told"), [
    ("train-hed", "give a profile, or --out FILE"),
    ("train-hed smoke --width 3", "--width goes with --out FILE"),
    ("train-hed --out x.pt --data nowhere", "nowhere"),
    ("train-hed --out x.pt --data nowhere --lr 0", "train-hed: setting 'lr'"),
    ("group x.png --out trees --hed nowhere.pt", "nowhere.pt: no such file"),
])  # fmt: skip
def test_wrong_use_of_the_edge_network_is_one_line(photos, monkeypatch, capsys, arguments, told):
    monkeypatch.chdir(photos)
    (photos / "x.png").write_bytes((photos / "good.png").read_bytes())
    assert told in fails(capsys, *arguments.split())
