"""Verdicts: by hand, on runs whose outcome is known, complete, and honest about what was not run."""

import dataclasses
import itertools
import json
import shutil

import numpy as np
import pytest
import yaml
from claimed import every_run
from conftest import SMALL_PARAMS

from hgrl import __main__ as cli
from hgrl.core import paths
from hgrl.core.errors import InputError
from hgrl.core.experiment import load_experiment
from hgrl.core.files import read_json, write_json
from hgrl.evaluation.probe import save_confusions
from hgrl.evaluation.stage import evaluate
from hgrl.metrics.segmentation import miou
from hgrl.reporting import claims
from hgrl.reporting.claims import BETTER, FAILS, HOLDS, UNDECIDED, side, verdict
from hgrl.reporting.tables import EXTRA_NOT_RUN, NOT_RUN

KEYS = {"claim", "paper", "ours", "theirs", "difference", "interval_95", "verdict"}


def matrices(quality, seed, images=12, classes=3, pixels=200):
    """(N, C, C): each class's pixels are right with chance `quality`, else spread over all classes; images as
    hard for every run.
    """
    random, ease = (
        np.random.default_rng((seed, round(1000 * quality))),
        np.random.default_rng(9).uniform(-0.05, 0.05, images),
    )
    result = np.zeros((images, classes, classes), np.int64)
    for image, row in itertools.product(range(images), range(classes)):
        chances = np.full(classes, (1 - quality - ease[image]) / classes)
        chances[row] += quality + ease[image]
        result[image, row] = random.multinomial(pixels, chances)
    return result


@pytest.fixture
def probed(home):
    """A function that puts runs of given qualities into a profile of two seeds, as if they had been probed.

    It returns {run: its seeds' mIoU}, and the experiment."""
    runs = {
        run: ({"method": "hierarchical"} if run.startswith("ours") else {"method": "moco"})
        for run in (*every_run(), "random")
    }
    paths.PARAMS.write_text(yaml.safe_dump({"runs": runs}))

    def put(qualities, head="aspp-backbone"):
        scores, experiment = {}, load_experiment("tiny")
        for run, quality in qualities.items():
            scores[run] = put_run(experiment.files, run, quality, (0, 1), head)
        metrics = {run: {"voc": {head: {"miou_mean": float(np.mean(own))}}} for run, own in scores.items()}
        write_json(experiment.files.metrics("probe"), metrics)
        return scores, experiment

    return put


def put_run(files, run, quality, seeds, head="aspp-backbone"):
    """Scores and matrices as the stage `probe` leaves them; the mIoU by seed."""
    counts = np.array([matrices(quality, seed) for seed in seeds])
    scores = [miou(own) for own in counts.sum(1)]
    own = {seed: {"voc": {head: {"miou": score}}} for seed, score in zip(seeds, scores, strict=True)}
    write_json(files.result("probe", run), {"seeds": own})
    save_confusions(files.all_confusions(run), {head: counts})
    return scores


def with_extras(experiment, names):
    """The experiment with these runs among the extras, and their scores where the extras' are."""
    metrics = read_json(experiment.files.metrics("probe"))
    moved = {run: metrics.pop(run) for run in names if run in metrics}
    write_json(experiment.files.metrics("probe"), metrics)
    write_json(experiment.files.extras.metrics("probe"), moved)
    extra = experiment.files.extras.result("probe", "").parent
    extra.mkdir(parents=True)
    for path in experiment.files.result("probe", "").parent.iterdir():
        if path.stem in moved:
            path.rename(extra / path.name)
    params = yaml.safe_load(paths.PARAMS.read_text()) | {"extras": {"probe": names}}
    paths.PARAMS.write_text(yaml.safe_dump(params))
    return load_experiment("tiny")


def test_claims_on_extras_keep_the_committed_verdict_and_say_so(probed):
    _, experiment = probed({"ours-image-long": 0.6, "moco-long": 0.8, "ours-cns5-20": 0.8})
    plain = by_id(claims.write_claims(experiment), "10b")
    assert plain["verdict"] == HOLDS and not plain["extras"]
    experiment = with_extras(experiment, ["ours-image-long"])
    entry = by_id(claims.write_claims(experiment), "10b")
    assert (entry["verdict"], entry["why"]) == (UNDECIDED, f"{EXTRA_NOT_RUN}: ours-image-long")
    (judged,) = claims.judge_extras(experiment)
    assert judged == plain | {"extras": True}
    shutil.rmtree(experiment.files.extras.result("probe", "").parent)  # the verdict itself is committed too
    entries = claims.write_claims(experiment)
    assert by_id(entries, "10b") == judged and by_id(entries, "4")["verdict"] == HOLDS
    assert "**holds** (extras)" in experiment.files.claims.with_suffix(".md").read_text()
    stale = [judged | {"runs": {"ours": "ours-image-long", "theirs": "moco"}}]
    write_json(experiment.files.extras.metrics("claims"), stale)
    assert by_id(claims.write_claims(experiment), "10b")["verdict"] == UNDECIDED


def test_runs_with_more_seeds_are_paired_over_those_that_both_have(probed):
    scores, experiment = probed({"ours-cns5-20": 0.8, "instfeat": 0.5})
    settings = experiment.settings.model_copy(update={"more_seeds": {"ours-cns5-20": (7, 10)}})
    experiment = dataclasses.replace(experiment, settings=settings)
    put_run(experiment.files, "ours-cns5-20", 0.8, (0, 1, 7, 10))
    assert experiment.run("ours-cns5-20").settings.seeds == (0, 1, 7, 10)
    entry = by_id(claims.write_claims(experiment), "1")
    assert entry["ours"]["seeds"] == len(entry["by_seed"]) == 2
    assert entry["ours"]["mean"] == pytest.approx(100 * np.mean(scores["ours-cns5-20"]), abs=1e-4)


def test_every_judged_claim_says_what_could_have_been_seen(probed):
    _, experiment = probed({"ours-cns5-20": 0.8, "instfeat": 0.5})
    entry = by_id(claims.write_claims(experiment), "1")
    low, high = entry["interval_95"]
    # the interval is 1.96 deviations to each side
    assert entry["detectable"] == pytest.approx((high - low) / 2 * (1.96 + 0.8416) / 1.96, rel=0.1)
    half = entry["interval_95_seeds"][1] - entry["difference"]
    assert entry["detectable_by_seeds"] > half
    page = experiment.files.claims.with_suffix(".md").read_text()
    assert "80 %" in page and f"| {entry['detectable']:.2f} " in page.partition("could have been seen")[2]


def by_id(entries, id_):
    return next(entry for entry in entries if entry["id"] == id_)


def test_a_clear_lead_holds_and_a_clear_lag_does_not(probed):
    scores, experiment = probed({"ours-cns5-20": 0.8, "instfeat": 0.5, "segsort": 0.95})
    entries = claims.write_claims(experiment)
    first, second = by_id(entries, "1"), by_id(entries, "2")
    assert (first["verdict"], second["verdict"]) == (HOLDS, FAILS)
    ours, theirs = (100 * np.array(scores[run]) for run in ("ours-cns5-20", "instfeat"))
    assert first["ours"] == {
        "mean": pytest.approx(ours.mean(), abs=1e-4),
        "std": pytest.approx(ours.std(ddof=1), abs=1e-4),
        "seeds": 2,
    }
    assert first["theirs"]["mean"] == pytest.approx(theirs.mean(), abs=1e-4)
    assert first["difference"] == pytest.approx((ours - theirs).mean(), abs=1e-4)
    assert first["by_seed"] == pytest.approx(list(ours - theirs), abs=1e-4)
    assert 0 < first["interval_95"][0] < first["difference"] < first["interval_95"][1]
    assert first["images"] == 12 and first["runs"] == {"ours": "ours-cns5-20", "theirs": "instfeat"}
    assert second["interval_95"][1] < 0


def test_a_run_like_the_other_matches_it_and_is_not_said_to_beat_it(probed):
    _, experiment = probed({"ours-cns5-20": 0.7, "moco-long": 0.7, "moco": 0.7})
    for run in ("moco-long", "moco"):
        own, other = (experiment.files.all_confusions(name) for name in (run, "ours-cns5-20"))
        assert own.read_bytes() == other.read_bytes()
    entries = claims.write_claims(experiment)
    assert by_id(entries, "4")["verdict"] == HOLDS and by_id(entries, "4")["interval_95"] == [0, 0]
    assert by_id(entries, "4")["margin"] == pytest.approx(
        0.02 * by_id(entries, "4")["theirs"]["mean"], abs=1e-3
    )
    assert by_id(entries, "3")["verdict"] == UNDECIDED and by_id(entries, "3")["margin"] is None


@pytest.mark.parametrize(("untrained", "expected"), [(0.4, HOLDS), (0.7, UNDECIDED), (0.9, UNDECIDED)])
def test_runs_that_learnt_nothing_do_not_match(probed, untrained, expected):
    alike = dict.fromkeys(("ours-cns5-20", "moco-long", "ours-cns5", "ours-cns5-half"), 0.7)
    _, experiment = probed({**alike, "moco": 0.5, "random": untrained})
    entries = claims.write_claims(experiment)
    assert by_id(entries, "4")["verdict"] == by_id(entries, "9")["verdict"] == expected
    assert (by_id(entries, "4")["why"] == claims.NOTHING_LEARNT) == (expected == UNDECIDED)
    assert by_id(entries, "3")["verdict"] == HOLDS  # who beats another needs no such reference


def test_a_match_that_ours_exceeds_is_better_than_claimed_and_its_opposite_fails(probed):
    for ours, theirs, expected in ((0.8, 0.7, BETTER), (0.7, 0.8, FAILS)):
        _, experiment = probed({"ours-cns5-20": ours, "moco-long": theirs})
        entry = by_id(claims.write_claims(experiment), "4")
        assert (entry["verdict"], entry["difference"] > entry["margin"]) == (expected, expected == BETTER)
    assert entry["why"] == "none of the interval is above -{0:.2f} and below {0:.2f}".format(entry["margin"])


def test_the_committed_verdicts_follow_from_their_own_figures():
    judged = sorted(paths.HOME.glob("results/*/claims.json"))
    assert judged
    for path in judged:
        for entry in read_json(path):
            if entry["difference"] is not None and entry["why"] != claims.NOTHING_LEARNT:
                wanted = side(entry["kind"], entry["margin"] or 0.0)
                assert entry["verdict"] == verdict(entry["interval_95"], wanted)


def test_a_lead_that_grows_is_a_difference_of_differences(probed):
    scores, experiment = probed({"ours-cns5": 0.8, "moco": 0.75, "ours-cns5-small": 0.7, "moco-small": 0.4})
    entry = by_id(claims.write_claims(experiment), "5")
    mean = {run: 100 * np.mean(values) for run, values in scores.items()}
    assert entry["ours"]["mean"] == pytest.approx(mean["ours-cns5-small"] - mean["moco-small"], abs=1e-4)
    assert entry["theirs"]["mean"] == pytest.approx(mean["ours-cns5"] - mean["moco"], abs=1e-4)
    assert entry["difference"] == pytest.approx(entry["ours"]["mean"] - entry["theirs"]["mean"], abs=1e-3)
    assert (entry["verdict"], entry["paper"], entry["paper_base"]) == (HOLDS, [43.51, 32.04], [45.57, 42.07])


def test_end_to_end_claims_read_their_own_head(probed):
    qualities = {"ours-cns5-e2e": 0.6, "moco-e2e": 0.6, "moco-long-e2e": 0.9}
    _, experiment = probed(qualities, head="fcn-backbone")
    entries = claims.write_claims(experiment)
    assert (by_id(entries, "11a")["verdict"], by_id(entries, "11b")["verdict"]) == (HOLDS, HOLDS)
    assert by_id(entries, "11a")["score"] == "fcn-backbone.miou"


def test_what_was_not_run_is_undecided_and_says_what(probed):
    _, experiment = probed({"ours-cns5-20": 0.8, "ours-cns5": 0.8})
    entries = claims.write_claims(experiment)
    assert len(entries) == 15 and all(entry.keys() >= KEYS for entry in entries)
    third, twelfth = by_id(entries, "3"), by_id(entries, "12b")
    assert (third["verdict"], third["why"]) == (UNDECIDED, f"{NOT_RUN}: moco")
    assert third["ours"]["seeds"] == 2 and third["theirs"] == {"mean": None, "std": None, "seeds": None}
    assert third["difference"] is third["interval_95"] is None
    assert twelfth["why"] == f"{NOT_RUN}: ours-many, instfeat-many, ours-single, instfeat-single"
    assert all(entry.keys() == third.keys() for entry in entries)


def test_a_score_without_its_matrices_is_one_line_and_no_verdict_is_lost(probed):
    _, experiment = probed({"ours-cns5-20": 0.8, "instfeat": 0.5})
    claims.write_claims(experiment)
    before = experiment.files.claims.read_bytes()
    path = experiment.files.all_confusions("instfeat")
    save_confusions(path, {"aspp-backbone": np.array([matrices(0.6, 0), matrices(0.5, 1)])})
    with pytest.raises(InputError, match=r"instfeat.npz: matrices of other scores .* `dvc repro probe@tiny`"):
        claims.write_claims(experiment)
    path.unlink()
    with pytest.raises(InputError, match=r"instfeat.npz: no confusion matrices; run `dvc repro`"):
        claims.write_claims(experiment)
    assert experiment.files.claims.read_bytes() == before


def test_files_are_equal_when_made_again_and_the_page_shows_what_the_json_holds(probed):
    _, experiment = probed({"ours-cns5-20": 0.8, "instfeat": 0.5, "moco-long": 0.7, "ours-cns5": 0.79})
    assert claims.read_claims(experiment) == []
    made, path = claims.write_claims(experiment), experiment.files.claims
    page, first_bytes = path.with_suffix(".md"), path.read_bytes()
    assert json.loads(first_bytes) == claims.read_claims(experiment) == made
    text = page.read_text()
    assert text == claims.as_markdown(json.loads(first_bytes), "tiny")
    counted = [
        sum(entry["verdict"] == kind for entry in made)
        for kind in ("holds", "better than claimed", "does not hold here", "undecided")
    ]
    said = "holds: {}, better than claimed: {}, does not hold here: {}, undecided: {}.".format(*counted)
    assert said in text and sum(counted) == 15 and counted[1] == 1
    rows = [line for line in text.splitlines() if line.startswith("| 1")]
    first, cells = by_id(made, "1"), [cell.strip() for cell in rows[0].strip("|").split("|")]
    assert cells[:4] == ["1", "Ours beats InstFeat", "46.51 v. 38.11", "ours-cns5-20 v. instfeat"]
    assert (
        cells[4] == f"{first['ours']['mean']:.2f} ± {first['ours']['std']:.2f}"
        and cells[7] == f"{first['difference']:+.2f}"
    )
    assert "**holds**" in cells[-1] and len(cells) == 12
    assert text.count("undecided (not run in this profile: ") == sum(
        "not run" in entry["why"] for entry in made
    )
    assert "**The rule**" in text and "75 %" in text
    claims.write_claims(experiment)
    assert path.read_bytes() == first_bytes and page.read_text() == text


def test_a_verdict_that_the_seeds_alone_do_not_bear_out_has_a_star(probed):
    _, experiment = probed({"ours-cns5-20": 0.8, "instfeat": 0.5})
    entry = by_id(claims.write_claims(experiment), "1")
    assert entry["borne_out_by_seeds"] == (entry["interval_95_seeds"][0] > 0)
    for borne_out, expected in ((False, r"**holds**\*"), (True, "**holds**"), (None, "**holds**")):
        assert claims._row(entry | {"borne_out_by_seeds": borne_out})["verdict"] == expected


def test_the_command_tells_every_verdict(probed, capsys):
    probed({"ours-cns5-20": 0.8, "instfeat": 0.5})
    assert cli.main(["claims", "tiny"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split(maxsplit=1)[1] == "Ours beats InstFeat: holds (all of the interval is above 0.00)"
    assert len(lines) == 16 and lines[-1] == "results/tiny/claims.md"


def test_from_the_probe_to_a_verdict(pipeline):
    """Two runs that need no training, under the names of a claim."""
    runs = SMALL_PARAMS["runs"] | {"ours-cns5": {"method": "random"}, "ours-cns0": {"method": "position"}}
    paths.PARAMS.write_text(yaml.safe_dump({**SMALL_PARAMS, "runs": runs}))
    profile = yaml.safe_load(paths.profile_file("small").read_text())
    profile["probe"] |= {"heads": ["aspp-backbone"]}
    paths.profile_file("small").write_text(yaml.safe_dump(profile))
    experiment = load_experiment("small")
    scores = evaluate("probe", experiment, "ours-cns5,ours-cns0")
    entry = by_id(claims.write_claims(experiment), "6")
    assert entry["ours"]["mean"] == pytest.approx(
        100 * np.mean([score["scenes"]["aspp-backbone"]["miou"] for score in scores["ours-cns5"].values()]),
        abs=1e-4,
    )
    assert entry["images"] == 4 and entry["interval_95"][0] <= entry["difference"] <= entry["interval_95"][1]
