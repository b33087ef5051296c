"""What a result may claim: levels from checks, limits with a direction, and one log Z for one prior."""

import dataclasses
import json
import math
import shutil

import numpy as np
import pytest

from dvae_cli.main import main as dvae_eval
from dvae_eval import estimate_log_z
from dvae_eval.config import LikelihoodConfig
from dvae_eval.likelihood.estimate_log_likelihood import estimate_log_likelihood
from dvae_eval.likelihood.on_log_z import is_better, on_log_z
from dvae_eval.results import LikelihoodResult, LogZResult, load_result
from dvae_eval.trained import machine_of
from dvae_eval.verdict import LEVELS, Check, level_of, worst
from dvae_reports.report.render import render_report
from dvae_reports.results.loaded import load_results
from dvae_reports.results.run_directory import RunRecord
from dvae_reports.tables import make_tables
from dvae_reports.tables.formats import write_tables
from tests.commands import status_of
from tests.eval.likelihood.test_likelihood import IMAGES, float32, trained
from tests.reports.test_report_run import write_run

RBM = (np.full((3, 2), 0.5), np.zeros(3), np.zeros(2))
# So short a run makes no round trips in it.
HARD = (np.full((12, 12), 1.5), np.full(12, -9.0), np.full(12, -9.0))
GOOD = Check.at_least("lowest overlap", 0.4, 0.05, "more rungs")
WARNING = Check.at_most("estimated gap between bound and log-likelihood, nats", 2.1, 2.0, "more", warning=True)
FAILURE = Check.at_least("round trips", 1.0, 2.0, "more sweeps")


# --- levels ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("checks", "how", "level"),
    [
        ([], {"exact": True}, "exact"),
        ([GOOD], {"bracketed": True}, "bracketed"),
        ([GOOD], {}, "checked"),
        ([GOOD, WARNING], {"bracketed": True}, "loose"),
        ([GOOD, WARNING, FAILURE], {}, "doubtful"),
        ([FAILURE], {"exact": True}, "doubtful"),
        ([GOOD], {"trustworthy": False}, "doubtful"),
    ],
)
def test_the_worst_check_makes_the_level(checks, how, level):
    assert level_of(checks, **how) == level


def test_levels_are_ordered():
    assert worst(["exact", "loose", "checked"]) == "loose"
    assert [worst(LEVELS[: i + 1]) for i in range(len(LEVELS))] == list(LEVELS)


@pytest.mark.parametrize(
    ("settings", "level", "claim"),
    [
        ({}, "exact", "exact; no error but rounding: use it as it is"),
        (
            {"method": "pt-bar", "n_sweeps": 2000},
            "checked",
            "an unvisited mode: use it with its error; --sandwich adds bounds",
        ),
        (
            {"method": "pt-bar", "n_sweeps": 2000, "against_exact": True},
            "checked",
            "checked; it agrees with the exact value: use the exact value",
        ),
        ({"method": "pt-bar", "n_sweeps": 2000, "sandwich": True}, "bracketed", "bounds it from both sides"),
    ],
)
def test_a_claim_says_what_the_level_means_and_what_to_do_next(settings, level, claim):
    result = estimate_log_z(RBM, seed=1, **settings)
    assert (result.verdict, result.trustworthy, result.reasons, result.warnings) == (level, True, [], [])
    assert claim in result.claim
    assert json.loads(result.to_json())["verdict"] == level


def test_a_failed_check_may_be_wrong():
    result = estimate_log_z(HARD, method="pt-bar", n_sweeps=20, seed=1)
    assert (result.verdict, result.trustworthy) == ("doubtful", False)
    assert result.claim == "may be wrong; do not use it; each failed check says what to do"
    assert result.reasons


def test_the_level_in_a_file_is_not_what_is_read(tmp_path):
    """It is derived: a file that says one thing in its checks and another in its verdict says the former."""
    path = tmp_path / "logz.json"
    estimate_log_z(HARD, method="pt-bar", n_sweeps=20, seed=1).save(path)
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "verdict": "exact", "trustworthy": True, "reasons": []}))
    assert load_result(path).verdict == "doubtful"


def old_likelihood(path, run, *checks):
    """Write a likelihood as earlier versions did: without levels, and distrusting a bound that is loose."""
    data = json.loads((run / "ll.json").read_text())
    del data["verdict"], data["warnings"]
    plain = [{k: v for k, v in dataclasses.asdict(c).items() if k not in ("severity", "side")} for c in checks]
    failed = [check.name for check in checks if not check.passed]
    diagnostics = {**data["diagnostics"], "checks": plain}
    path.write_text(json.dumps({**data, "diagnostics": diagnostics, "trustworthy": not failed, "reasons": failed}))
    return load_result(path)


def test_old_files_get_their_level_from_their_checks(tmp_path):
    run = write_run(tmp_path / "run")
    loose = old_likelihood(tmp_path / "a.json", run, GOOD, WARNING)
    assert (loose.verdict, loose.trustworthy, loose.reasons) == ("loose", True, [])
    assert loose.warnings == [f"{WARNING.name}: 2.1 (limit <= 2); more"]
    doubtful = old_likelihood(tmp_path / "b.json", run, WARNING, FAILURE)
    assert (doubtful.verdict, doubtful.trustworthy) == ("doubtful", False)
    assert old_likelihood(tmp_path / "c.json", run, GOOD).verdict == "checked"


@pytest.mark.parametrize("side", ["at_least", "at_most"])
@pytest.mark.parametrize("value", [0.1, 0.3])
def test_a_limit_has_a_direction_in_old_files_too(side, value):
    check = getattr(Check, side)("exchange rate", value, 0.15, "")
    assert check.limit == {"at_least": ">= 0.15", "at_most": "<= 0.15"}[side]
    old = Check.of_dict({k: v for k, v in dataclasses.asdict(check).items() if k not in ("severity", "side")})
    assert old.limit == check.limit
    assert f"(limit {check.limit})" in str(old)


# --- what takes the place of what -----------------------------------------------------------------------------


def log_z(**changes):
    return dataclasses.replace(estimate_log_z(RBM, method="pt-bar", n_sweeps=2000, seed=1), **changes)


def test_a_smaller_error_supersedes_and_a_doubtful_number_nothing():
    result = log_z()
    assert result.supersedes(result)
    assert log_z(std_err=result.std_err / 2).supersedes(result)
    assert not log_z(std_err=result.std_err * 2).supersedes(result)
    doubtful = log_z(std_err=result.std_err / 2, trustworthy=False)
    assert not doubtful.supersedes(result)
    assert log_z(std_err=result.std_err * 2).supersedes(doubtful)
    assert not log_z(std_err=None).supersedes(result)
    assert not log_z(model={**result.model, "prior_sha256": "another"}).supersedes(result)
    assert estimate_log_z(RBM).supersedes(result)
    assert not result.supersedes(estimate_log_z(RBM))


# --- one log Z ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["importance", "ais"])
def test_the_shift_is_that_of_the_estimate_itself(method):
    """A likelihood on another log Z is what the estimate gives with that one from the start, in every part."""
    model = float32(trained(seed=1, n_layers=1))
    exact = estimate_log_z(machine_of(model))
    rough = dataclasses.replace(exact, log_z=exact.log_z + 0.25, std_err=0.1)
    config = LikelihoodConfig(n_samples=200, method=method, n_ais_chains=4, n_ais_steps=10, seed=3)
    labels = np.arange(len(IMAGES)) % 2
    made, wanted = (
        estimate_log_likelihood(model, IMAGES, used, config, labels=labels, log_z_source="logz.json")
        for used in (rough, exact)
    )
    found = on_log_z(made, exact, "logz.json")
    assert is_better(exact, made)
    assert found.diagnostics["log_z_applied"]["shift"] == pytest.approx(0.25, abs=1e-12)
    for name in ("verdict", "reasons", "warnings", "log_z", "std_err_log_z", "gap"):
        assert getattr(found, name) == getattr(wanted, name), name
    for name in ("log_likelihood", "elbo", "bits_per_dim", "elbo_parts", "std_err_images"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), abs=1e-9), name
    for name, values in wanted.per_image.items():
        assert found.per_image[name] == pytest.approx(values, abs=1e-9, nan_ok=True), name
    for name in {"bound_curve", "per_class", "importance"} & set(wanted.diagnostics):
        for key, values in wanted.diagnostics[name].items():
            assert found.diagnostics[name][key] == pytest.approx(values, abs=1e-9), (name, key)


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def better(tmp_path):
    """A run whose log Z was estimated again after its likelihood, and came out 0.0358 nats higher."""
    run = write_run(tmp_path / "run")
    log_z = load_result(run / "logz.json")
    edit(run / "ll.json", log_z=log_z.log_z - 0.0358, std_err_log_z=0.05, log_z_source=str(run / "logz.json"))
    return run


def test_page_table_and_figure_stand_on_the_better_log_z(better):
    log_z, made = load_result(better / "logz.json"), load_result(better / "ll.json")
    (loaded,) = (one.result for one in load_results(better) if isinstance(one.result, LikelihoodResult))
    assert loaded.log_likelihood == pytest.approx(made.log_likelihood - 0.0358, abs=1e-12)
    assert (loaded.log_z, loaded.std_err_log_z) == (log_z.log_z, log_z.std_err)
    (alone,) = (one.result for one in load_results(better / "ll.json"))
    assert alone == dataclasses.replace(loaded, log_z_source=alone.log_z_source)
    page = render_report([RunRecord.load(better)])
    said = "which shifts every image by exactly −0.0358 nats"
    assert said in page
    assert f"{made.log_z:.4f} (" not in page
    text = write_tables(make_tables("results", load_results(better)), "text")
    assert said in text


def test_a_worse_log_z_is_said_to_be_another(better):
    edit(better / "ll.json", std_err_log_z=0.001)
    made = load_result(better / "ll.json")
    (loaded,) = (one.result for one in load_results(better) if isinstance(one.result, LikelihoodResult))
    assert loaded.log_likelihood == made.log_likelihood
    page = render_report([RunRecord.load(better)])
    assert "(an earlier estimate) and uses it here. With" in page
    assert "it would be 0.036 nats lower" in page
    assert f"{made.log_z:.4f} ({better}" not in page


def test_a_doubtful_log_z_is_not_applied(better):
    edit(better / "logz.json", trustworthy=False, reasons=["no round trips"])
    made = load_result(better / "ll.json")
    (loaded,) = (one.result for one in load_results(better) if isinstance(one.result, LikelihoodResult))
    assert loaded.log_likelihood == made.log_likelihood


# --- words ----------------------------------------------------------------------------------------------------


def test_failed_seeds_are_named_in_their_footnote(tmp_path):
    runs = [write_run(tmp_path / f"digits-{seed}", seed=seed) for seed in range(2)]
    for seed, run in enumerate(runs):
        edit(run / "ll.json", trustworthy=False, reasons=[f"reason {seed}"])
    text = write_tables(make_tables("results", [one for run in runs for one in load_results(run)]), "text")
    assert "† digits: may be wrong: digits-0: reason 0; digits-1: reason 1." in text


def test_a_loose_bound_is_marked_and_its_run_exits_with_0(tmp_path, capsys):
    run = write_run(tmp_path / "run")
    data = json.loads((run / "ll.json").read_text())
    diagnostics = {**data["diagnostics"], "checks": [dataclasses.asdict(WARNING)]}
    edit(run / "ll.json", diagnostics=diagnostics)
    assert status_of(dvae_eval, "table", run, "--kind", "results") == 0
    text = capsys.readouterr().out
    assert "¶ run: loose: " in text
    assert "loose\n" in text
    page = render_report([RunRecord.load(run)])
    assert "Loose" in page
    assert "! could be better" in page
    assert "May be wrong" not in page


def test_hyphens_stay_hyphens_in_latex(tmp_path):
    run = write_run(tmp_path / "run")
    edit(run / "ll.json", trustworthy=False, reasons=["give more --samples"])
    text = write_tables(make_tables("results", load_results(run)), "latex")
    assert "-{}-samples" in text
    assert "--samples" not in text


@pytest.mark.parametrize(
    ("route", "words"),
    [
        ("independent units", "computed exactly by the closed form of independent units"),
        ("enumeration + elimination", "computed exactly by enumeration and elimination"),
        ("", "computed exactly"),
    ],
)
def test_an_exact_value_says_how_it_was_had(tmp_path, route, words):
    run = write_run(tmp_path / "run")
    edit(run / "logz.json", method="exact", std_err=0.0, repeats=[], diagnostics={"route": route} if route else {})
    assert f"{words}: no error" in render_report([RunRecord.load(run)])


def test_exact_runs_that_a_figure_leaves_out_are_named(tmp_path, capsys):
    runs = [write_run(tmp_path / name, seed=seed) for seed, name in enumerate(("a", "b"))]
    edit(runs[1] / "logz.json", method="exact", std_err=0.0, repeats=[])
    model = load_result(runs[1] / "logz.json").model
    for name in ("logz.json", "ll.json"):
        edit(runs[1] / name, model={**model, "prior_sha256": "another"})
    assert status_of(dvae_eval, "figure", "logz", *runs, "-o", tmp_path / "f.svg") == 0
    assert "b: not drawn, because an exact value has no independent estimates" in capsys.readouterr().err


def test_inspect_knows_what_this_project_wrote(tmp_path, capsys):
    run = write_run(tmp_path / "run")
    assert status_of(dvae_eval, "inspect", run / "samples.npz") == 0
    text = capsys.readouterr().out
    assert "samples.npz: samples and reconstructions of a model of this project" in text
    assert "samples: shape 10 4 5 8 8" in text


def test_files_without_a_finite_value_have_their_checks(tmp_path):
    path = tmp_path / "logz.json"
    result = estimate_log_z(RBM, method="pt-bar", n_sweeps=2000, seed=1)
    checks = [{**dataclasses.asdict(FAILURE), "value": math.nan}]
    dataclasses.replace(result, diagnostics={"checks": checks}).save(path)
    assert "not finite (limit >= 2)" in str(load_result(path).checks[0])
    assert isinstance(load_result(path), LogZResult)
    shutil.rmtree(tmp_path)
