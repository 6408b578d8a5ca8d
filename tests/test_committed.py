"""What notebooks draw before anything is scored, and what they call the runs."""

from conftest import write_profile
from test_figures import drawn

from hgrl.core.experiment import load_experiment
from hgrl.core.files import write_json
from hgrl.reporting.figures import committed, names, verdicts


def test_names_of_runs_are_readable_and_all_different():
    for table in ("table1", "table2", "table3"):
        found = names.run_names(table)
        assert len(set(found.values())) == len(found) and not any("_" in name for name in found.values())
    found = names.run_names("table1")
    assert (found["moco"], found["moco-long"], found["ours-cns5-20"]) == (
        "MoCo",
        "MoCo, long",
        "Ours, cns 5 and 20",
    )
    assert names.renamed({"ours-cns0": 1, "mine": 2}, "table3") == {"Ours, cns 0": 1, "mine": 2}


def test_what_a_profile_has_not_is_read_of_mini(home, capsys):
    scores = {"0": {"scenes": {"miou": 0.5}}}
    for profile, run in (("small", "ours"), ("mini", "moco")):
        write_profile(home, name=profile)
        write_json(home / f"results/{profile}/probe/{run}.json", {"seeds": scores})
    experiment = load_experiment("small")
    found, source = committed.committed_scores(experiment, "probe", "ours,far")
    assert found == {"ours": scores} and source is experiment
    assert "results/small" in (said := capsys.readouterr().out) and "not scored in small: far" in said
    (home / "results/small/probe/ours.json").unlink()
    found, source = committed.committed_scores(experiment, "probe")
    assert found == {"moco": scores} and source.profile == "mini"
    assert committed.committed(experiment, "sweep", committed.extras_or_cells) == ({}, experiment)


def test_results_of_an_older_layout_are_left_out(home, capsys):
    write_profile(home)
    write_profile(home, name="mini")
    layouts = {"tracking": {"field": {"j_mean": 0.5}}, "retrieval": {"scenes": {"embedding": {}}}}
    for stage, now in layouts.items():
        write_json(home / f"results/mini/{stage}/new.json", {"seeds": {"0": now}})
        write_json(home / f"results/mini/{stage}/old.json", {"seeds": {"0": next(iter(now.values()))}})
        found, _ = committed.committed_scores(load_experiment("small"), stage, "new,old")
        assert found == {"new": {"0": now}} and "not scored in mini: old" in capsys.readouterr().out


def test_every_claim_has_its_place_and_every_verdict_its_mark():
    entry = {"difference": 1.0, "interval_95": [0.5, 1.5], "margin": 0.6, "kind": "matches"}
    entries = [
        entry | {"id": k, "claim": f"claim {k}", "verdict": verdict}
        for k, verdict in enumerate(verdicts.STYLES)
    ]
    lacking = {"id": 4, "claim": "claim 4", "verdict": "undecided", "difference": None}
    figure = drawn(verdicts.verdict_picture([*entries, entries[0], lacking]), axes=1)
    axes, (legend,) = figure.axes[0], figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(verdicts.STYLES)  # each once
    assert [text.get_text() for text in axes.texts] == [" not run here"]
    assert len(axes.get_yticklabels()) == 6 and len({marker for marker, _ in verdicts.STYLES.values()}) == 4
    assert [(bar.get_x(), bar.get_width()) for bar in axes.patches] == [(-0.6, 1.2)] * 5
