"""Comparison tables: what they say, that it is what the files say, and what they refuse to say."""

import csv
import io
import json
import re
import shlex
import shutil
import statistics
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvae_cli.main import main as dvae_eval
from dvae_core.config import ModelConfig
from dvae_core.errors import ResultError
from dvae_core.text import decimals, fixed, signed
from dvae_eval.results import load_result
from dvae_reports.names import TABLE_SUFFIXES, TABLES
from dvae_reports.results import published
from dvae_reports.results.groups import group_runs
from dvae_reports.results.loaded import load_results
from dvae_reports.results.paired import difference
from dvae_reports.results.run_names import distinct_names
from dvae_reports.tables import benchmark_tables, command_table, contribution_table, make_tables
from dvae_reports.tables.ablations import _variant
from dvae_reports.tables.formats import FORMATS, write_table
from dvae_reports.tables.rows import Row, ranked_section
from dvae_reports.tables.table import Cell, Column, Section, Table
from tests.commands import status_of
from tests.places import ROOT
from tests.reports.test_report_run import edit, write_run


def read(*paths):
    return [one for path in paths for one in load_results(path)]


def table_of(*paths, kind="table1", **options):
    (table, *_) = make_tables(kind, read(*paths), **options)
    return table


def rows_of(table):
    """Return every row as a dict from column names to cells."""
    names = [column.name for column in table.columns]
    return [dict(zip(names, row, strict=True)) for section in table.sections for row in section.rows]


def row_of(table, name):
    (row,) = [row for row in rows_of(table) if next(iter(row.values())).text == name]
    return row


def model_edit(run, name, **changes):
    """Change fields of a run's `config.json` under `model` or `train`."""
    path = run / "config.json"
    config = json.loads(path.read_text())
    config[name] |= changes
    path.write_text(json.dumps(config))
    return run


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "mine", dataset="mnist-static")


@pytest.fixture
def seeds(tmp_path):
    return [write_run(tmp_path / f"mine-seed-{i}", dataset="mnist-static", seed=i) for i in range(4)]


# --- what the tables say --------------------------------------------------------------------------------------


def test_without_results_table_1_is_the_papers_to_the_last_digit():
    rows = rows_of(table_of())
    assert len(rows) == len(published.table_1())
    for row, paper in zip(rows, published.table_1(), strict=True):
        for name in ("elbo", "log_likelihood", "std_dev"):
            number = getattr(paper, name)
            assert row[name].text == (number.text.replace("-", "−") if number else "")
        assert row["source"].text == paper.cite
        # The paper's own bold type.
        assert row["log_likelihood"].is_best == (paper.model == "Discrete VAE")


def test_one_run_beside_the_paper_agrees_with_its_file(run):
    table = table_of(run)
    assert [section.title for section in table.sections] == ["MNIST (static binarization)"]
    row, result = row_of(table, "mine"), load_result(run / "ll.json")
    digits = decimals(result.std_err_images)
    assert row["log_likelihood"].text == f"{result.log_likelihood:.{digits}f}".replace("-", "−")
    assert row["log_likelihood"].value == result.log_likelihood
    assert row["elbo"].value == result.elbo
    assert row["std_err_images"].value == result.std_err_images
    assert row["std_err_log_z"].value == result.std_err_log_z
    assert row["std_err_images"].text == f"{result.std_err_images:.2g}"
    assert (row["n_runs"].value, row["std_dev"].text) == (1, "")
    # The fabricated digits score is far above the paper's: it is the best of its section.
    assert row["log_likelihood"].is_best
    assert not row_of(table, "Discrete VAE")["log_likelihood"].is_best


def test_seeds_become_one_row_with_their_mean_and_spread(seeds):
    row = row_of(table_of(*seeds), "mine")
    values = [load_result(run / "ll.json").log_likelihood for run in seeds]
    assert row["log_likelihood"].value == pytest.approx(statistics.mean(values), abs=1e-12)
    assert row["std_dev"].value == pytest.approx(statistics.stdev(values), abs=1e-12)
    assert row["n_runs"].value == 4
    spread = statistics.stdev(values)
    assert row["log_likelihood"].text == f"−{-statistics.mean(values):.{decimals(spread)}f}"
    # One set of images for all runs: a mean has no smaller error from them.
    assert row["std_err_images"].value == max(load_result(run / "ll.json").std_err_images for run in seeds)


def test_digits_are_those_that_differences_on_the_same_images_allow(seeds, tmp_path):
    """Images of very different likelihood: each mean is known to 2 nats, the differences of the runs to 0.01."""
    rng = np.random.default_rng(0)
    common = rng.normal(-90, 60, 899)
    for i, run in enumerate(seeds[:2]):
        values = common + 0.5 * i + rng.normal(0, 0.3, 899)
        images = {"per_image": {"log_likelihood": values.tolist()}, "std_err_log_z": 0.001}
        edit(run / "ll.json", log_likelihood=values.mean(), std_err_images=2.0, elbo=values.mean() - 1, **images)
        model_edit(run, "model", n_groups=1 + i)
    one, other = seeds[:2]
    texts = {name: row_of(table_of(one, other), name)["log_likelihood"].text for name in (one.name, other.name)}
    assert all(re.fullmatch(r"−\d\d\.\d\d\d", text) for text in texts.values())
    # Alone, or beside a run on other images, there is nothing to compare it with.
    assert re.fullmatch(r"−\d\d\.\d", row_of(table_of(one), one.name)["log_likelihood"].text)
    elsewhere = json.loads((other / "ll.json").read_text())["per_image"] | {"index": list(range(899))}
    edit(other / "ll.json", per_image=elsewhere)
    assert re.fullmatch(r"−\d\d\.\d", row_of(table_of(one, other), one.name)["log_likelihood"].text)


def test_seeds_that_agree_by_chance_add_no_digits(seeds):
    """Nor do few images take some away: what counts is how well the runs' differences are known, here to 0.1."""
    for i, run in enumerate(seeds):
        edit(run / "ll.json", log_likelihood=-88.81 - i / 1000, std_err_images=1.0)
    (group,) = group_runs(read(*seeds))
    assert 0.05 < group.paired_std_err < 0.1
    row = row_of(table_of(*seeds), "mine")
    assert (row["log_likelihood"].text, row["std_dev"].text) == (fixed(group.log_likelihood, 3), "0.0013")


def test_numbers_that_agree_on_every_image_add_no_digits(run, tmp_path):
    """One model measured twice: no error of its difference, which says nothing of either."""
    again = tmp_path / "again.json"
    shutil.copy(run / "ll.json", again)
    assert [group.paired_std_err for group in group_runs(read(run, again))] == [None, None]


def test_what_was_measured_on_other_data_stands_with_those_and_is_never_the_best(seeds):
    """A model may be measured on data that it was not trained on; that is no result on the training's data."""
    settings = load_result(seeds[0] / "ll.json").settings
    elsewhere = seeds[0] / "ll.json"
    edit(elsewhere, settings={**settings, "data": "omniglot", "data_sha256": "e5" * 32})
    table = table_of(*seeds)
    titles = [section.title for section in table.sections]
    assert titles == ["MNIST (static binarization)", "Omniglot"]
    assert row_of(table, "mine")["n_runs"].value == 3
    row = row_of(table, elsewhere.parent.name)
    assert (row["model"].mark, row["log_likelihood"].is_best) == ("§", False)
    assert f"§ {elsewhere.parent.name}: trained on mnist-static." in table.notes
    assert difference(load_result(elsewhere), load_result(seeds[1] / "ll.json")) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda run: model_edit(run, "model", n_groups=2),
        lambda run: model_edit(run, "train", epochs=61),
        lambda run: model_edit(run, "provenance", data_sha256="d2" * 32),
        lambda run: edit(run / "ll.json", n_samples=1000),
        lambda run: edit(run / "ll.json", n_images=500),
        lambda run: edit(run / "ll.json", settings={"n_sweeps": 1, "n_replicates": 32}),
        lambda run: edit(run / "ll.json", trustworthy=False),
    ],
    ids=["model", "training", "data", "samples", "images", "measurement", "verdict"],
)
def test_what_differs_in_more_than_its_seed_is_not_averaged_in(seeds, change):
    change(seeds[3])
    assert sorted(len(group.runs) for group in group_runs(read(*seeds))) == [1, 3]


def test_a_result_of_unknown_training_stands_alone(seeds, tmp_path):
    """Outside a run directory nothing says how the model was trained."""
    files = [tmp_path / f"{i}.json" for i in range(2)]
    for run, file in zip(seeds, files, strict=False):
        shutil.copy(run / "ll.json", file)
    assert [len(group.runs) for group in group_runs(read(*files))] == [1, 1]


def test_device_and_seed_of_the_measurement_are_immaterial(seeds):
    for i, run in enumerate(seeds):
        settings = {"n_sweeps": 10_000, "n_replicates": 32, "seed": i, "device": f"cuda:{i}"}
        edit(run / "ll.json", settings=settings, seed=i)
    assert [len(group.runs) for group in group_runs(read(*seeds))] == [4]


def test_later_results_are_marked_as_not_verified_and_never_the_best():
    table = table_of(with_later=True)
    rows = [row for row in rows_of(table) if row["model"].text == "DVAE++"]
    assert [row["log_likelihood"].text for row in rows] == ["−78.49", "−92.38"]
    assert all(row["model"].mark == "‡" and not row["log_likelihood"].is_best for row in rows)
    assert any(note.startswith("‡ DVAE++") for note in table.notes)
    assert not [row for row in rows_of(table_of()) if row["model"].text == "DVAE++"]


def test_later_models_without_a_number_are_named(run):
    assert any("DVAE#" in note and "GumBolt" in note for note in table_of(run, with_later=True).notes)
    assert not any("GumBolt" in note for note in table_of(run).notes)


def test_references_are_those_of_the_rows_shown(run):
    notes = " ".join(table_of(run, references=True).notes)
    assert "variational Gaussian process. ICLR 2016" in notes
    assert "Enhanced gradient" not in notes


def test_a_part_of_the_test_set_is_marked_and_never_the_best(run):
    per_image = json.loads((run / "ll.json").read_text())["per_image"]
    edit(run / "ll.json", per_image=per_image | {"index": [11 * i for i in range(899)]})
    table = table_of(run)
    row = row_of(table, "mine")
    assert row["model"].mark == "§"
    assert not row["log_likelihood"].is_best
    assert any("899 of the test images" in note for note in table.notes)


def test_what_is_said_of_several_rows_is_said_once(seeds):
    mine, other = seeds[0], model_edit(seeds[1], "model", n_groups=1)
    for path in (mine / "ll.json", other / "ll.json"):
        per_image = json.loads(path.read_text())["per_image"]
        edit(path, per_image=per_image | {"index": [11 * i for i in range(899)]})
    notes = [note for note in table_of(mine, other).notes if "899" in note]
    assert notes == ["§ mine-seed-0, mine-seed-1: on 899 of the test images."]


def test_another_split_is_said(run):
    edit(run / "ll.json", settings={"split": "valid"})
    table = table_of(run)
    assert row_of(table, "mine")["model"].mark == "§"
    assert any("valid set" in note for note in table.notes)


def test_table_2_has_the_papers_rows_and_the_users(run, tmp_path):
    shutil.copy(run / "ll.json", tmp_path / "elsewhere.json")
    model_edit(run, "model", n_layers=0)
    table = table_of(run, tmp_path / "elsewhere.json", kind="table2")
    rows = [[cell.text for cell in row.values()] for row in rows_of(table)]
    assert rows[1] == [
        *("MNIST (static binarization)", "20", "256", "2000", "2 groups"),
        *("64 + 64", "4", "2000, 2000", "linear"),
    ]
    assert rows[4] == ["mine", "0", "", "", "", "32 + 32", "4", "200, 200", "linear"]
    assert "elsewhere.json" in table.notes[-1]


@pytest.mark.parametrize(
    ("changes", "variant"),
    [
        ({}, "full"),
        ({"n_layers": 0, "decoder_hidden": (50,)}, "deep"),
        ({"n_layers": 0}, "linear"),
        ({"n_layers": 0, "prior": "independent"}, "sbn"),
        ({"n_layers": 0, "prior": "independent", "n_groups": 1}, "flat"),
        ({"n_layers": 0, "prior": "graph", "graph": "ring"}, None),
        ({"prior": "independent"}, "unlinked"),
        ({"prior": "graph", "graph": "ring"}, None),
    ],
)
def test_every_architecture_is_its_variant(changes, variant):
    assert _variant(ModelConfig(**changes)) == variant


def test_the_ladder_shows_the_papers_numbers_and_the_users_run(run):
    model_edit(run, "model", n_layers=0)
    table = table_of(run, kind="ablation")
    titles = {section.title: section for section in table.sections}
    assert [row[4].text for row in titles["with a linear decoder too"].rows] == ["−92.7", "−88.8", "−27.845"]
    assert [row[4].text for row in titles["the full model"].rows] == ["−81.01"]
    assert list(titles)[-1] == "with a linear decoder too"  # what is below has no run
    assert not table.has_best


LADDER = {
    "full": {},
    "unlinked": {"prior": "independent"},
    "deep-128": {"n_layers": 0, "decoder_hidden": (200,), "n_left": 64, "n_right": 64},
    "linear-128": {"n_layers": 0, "n_left": 64, "n_right": 64},
    "linear-200": {"n_layers": 0, "n_left": 100, "n_right": 100},
    "sbn-200": {"n_layers": 0, "n_left": 100, "n_right": 100, "prior": "independent"},
    "flat-200": {"n_layers": 0, "n_left": 100, "n_right": 100, "prior": "independent", "n_groups": 1},
}


@pytest.fixture
def ladder(tmp_path):
    """A run on every rung, each with a prior of its own."""
    runs = {}
    for i, (name, changes) in enumerate(LADDER.items()):
        run = runs[name] = write_run(tmp_path / f"{name}_seed-0", dataset="mnist-static", seed=i)
        model_edit(model_edit(run, "train", seed=0), "model", **changes)
        model = json.loads((run / "ll.json").read_text())["model"]
        edit(run / "ll.json", model=model | {"prior_sha256": name})
    return runs


def test_the_gap_to_the_papers_number_is_that_of_the_files(ladder):
    rows = {
        row["run"].text.removesuffix("_seed-0"): row
        for row in rows_of(table_of(*ladder.values(), kind="ablation"))
    }
    paper = {
        **{"full": -81.01, "deep-128": -86.9, "linear-128": -92.7, "linear-200": -88.8},
        **{"sbn-200": -97.0, "flat-200": -102.9, "unlinked": None},
    }
    for name, number in paper.items():
        gap = None if number is None else load_result(ladder[name] / "ll.json").log_likelihood - number
        assert rows[name]["gap_to_paper"].value == gap
    edit(ladder["full"] / "ll.json", settings={"split": "test", "limit": 899})
    row = row_of(table_of(*ladder.values(), kind="ablation"), "full_seed-0")
    assert (row["run"].mark, row["gap_to_paper"].text) == ("§", rows["full"]["gap_to_paper"].text)
    edit(ladder["full"] / "ll.json", settings={"split": "valid"})
    assert row_of(table_of(*ladder.values(), kind="ablation"), "full_seed-0")["gap_to_paper"].text == ""
    # It has no more decimals than the paper's number has.
    assert {row["gap_to_paper"].digits for row in rows.values() if row["gap_to_paper"].text} == {1, 2}
    # Table 1 has the same gap, and the full model of another data set its own number.
    table = table_of(write_run(ladder["full"].parent / "omni", dataset="omniglot"))
    row = row_of(table, "omni")
    assert row["gap_to_paper"].value == row["log_likelihood"].value + 97.43
    assert row_of(table, "Discrete VAE")["gap_to_paper"].text == ""


def test_the_gain_of_every_part_is_the_difference_of_its_neighbours(ladder):
    """With the errors of the difference; runs of one size together, and the paper's own difference beside it."""
    _, gains = make_tables("ablation", read(*ladder.values()))
    rows = {(row["with"].text, row["without"].text): row for row in rows_of(gains)}
    paper = {
        ("full", "deep-128"): "+5.9",
        ("deep-128", "linear-128"): "+5.8",
        ("linear-200", "sbn-200"): "+8.2",
        ("sbn-200", "flat-200"): "+5.9",
        ("full", "unlinked"): "+0.37",
    }
    assert list(rows) == [(f"{a}_seed-0", f"{b}_seed-0") for a, b in paper]
    for (a, b), text in paper.items():
        row = rows[f"{a}_seed-0", f"{b}_seed-0"]
        gain = difference(*(load_result(ladder[name] / "ll.json") for name in (a, b)))
        assert row["gain"].value == gain.log_likelihood
        assert row["std_err_images"].value == gain.std_err_images
        assert row["std_err_log_z"].value == gain.std_err_log_z
        assert row["in_errors"].value == gain.log_likelihood / gain.std_err
        assert row["gain"].text == signed(gain.log_likelihood, decimals(gain.std_err))
        assert row["paper"].text == text
    assert "variation between seeds" in " ".join(gains.notes)


def test_gains_of_distrusted_results_are_marked_and_of_other_images_left_out(ladder):
    edit(ladder["sbn-200"] / "ll.json", trustworthy=False, reasons=["x"])
    images = json.loads((ladder["full"] / "ll.json").read_text())["per_image"]
    edit(ladder["full"] / "ll.json", per_image={**images, "index": list(range(1, 900))})
    model_edit(ladder["deep-128"], "provenance", data_sha256="d2" * 32)
    _, gains = make_tables("ablation", read(*ladder.values()))
    assert [(row["without"].text, row["part"].mark) for row in rows_of(gains)] == [
        ("sbn-200_seed-0", "†"),
        ("flat-200_seed-0", "†"),
    ]
    assert (
        gains.notes[-1] == "Not compared, because measured on different images: full_seed-0 and unlinked_seed-0."
    )


def test_a_single_rung_has_no_table_of_gains(run):
    assert len(make_tables("ablation", read(run))) == 1


def test_the_commands_that_made_every_number(run, tmp_path, capsys):
    assert status_of(dvae_eval, "table", run, "--commands", "--format", "csv") == 0
    text = capsys.readouterr().out.split("\n\n")[-1]
    commands = {row["made"]: row["command"] for row in csv.DictReader(io.StringIO(text))}
    config = json.loads((run / "config.json").read_text())
    made = [config["provenance"]["command"], *(load_result(run / f"{n}.json").command for n in ("logz", "ll"))]
    assert list(commands) == ["model", "log Z", "log-likelihood"]
    assert list(commands.values()) == [shlex.join(command) for command in made]
    shutil.copy(run / "ll.json", tmp_path / "alone.json")
    edit(tmp_path / "alone.json", command=[])
    assert status_of(dvae_eval, "table", tmp_path / "alone.json", "--commands") == 0
    assert "made from Python" in capsys.readouterr().out


def test_several_tables_are_one_page(run, tmp_path):
    assert status_of(dvae_eval, "table", run, "--kind", "results", "--commands", "-o", tmp_path / "t.html") == 0
    html = (tmp_path / "t.html").read_text(encoding="utf-8")
    assert html.count("<!doctype html>") == html.count("<h1>") == 1
    assert html.count("<table") == 3
    Balanced(html)


def test_results_of_any_kind_and_of_different_images_apart(tmp_path):
    runs = [write_run(tmp_path / "a"), write_run(tmp_path / "b", seed=1), write_run(tmp_path / "c", seed=2)]
    model_edit(runs[1], "model", n_groups=2)
    edit(runs[2] / "ll.json", n_images=100)
    likelihoods, log_zs = make_tables("results", read(*runs))
    assert [section.title for section in likelihoods.sections] == [
        "digits: 899 test images",
        "digits: 100 test images",
    ]
    assert [len(section.rows) for section in likelihoods.sections] == [2, 1]
    assert likelihoods.has_best
    result = load_result(runs[0] / "logz.json")
    row = row_of(log_zs, "a")
    assert row["log_z"].value == result.log_z
    assert row["log_z"].text == f"{result.log_z:.{decimals(result.std_err)}f}"
    assert row["exact"].value == result.diagnostics["exact"]["log_z"]


@given(st.lists(st.one_of(st.none(), st.floats(-200, 0)), min_size=1, max_size=8))
def test_the_best_is_the_largest_of_those_that_may_be_called_it(values):
    """All that share the largest value are marked, and nothing is where one number has no rival."""
    section = ranked_section("", [Row([Cell("a"), Cell(), Cell("b")], None, value) for value in values])
    marked = [row[2].is_best for row in section.rows]
    known = [value for value in values if value is not None]
    assert marked == [len(known) > 1 and value is not None and value == max(known) for value in values]


# --- what they refuse -----------------------------------------------------------------------------------------


def test_an_untrustworthy_result_is_marked_and_never_the_best_and_is_the_exit_status(run, capsys):
    edit(run / "ll.json", trustworthy=False, reasons=["log Z is doubtful"])
    assert status_of(dvae_eval, "table", run) == 3
    captured = capsys.readouterr()
    assert re.search(r"^mine† .* −27\.845 ", captured.out, re.M)
    assert "† mine: may be wrong: log Z is doubtful" in captured.out
    assert "−81.01*" in captured.out
    assert str(run) in captured.err


def damage_text(run):
    (run / "ll.json").write_text('{"kind": "ll", ')


def damage_schema(run):
    edit(run / "ll.json", schema=99)


def damage_number(run):
    edit(run / "ll.json", log_likelihood=None)


def damage_type(run):
    edit(run / "ll.json", log_likelihood="-81")


def damage_model(run):
    edit(run / "ll.json", model=json.loads((run / "ll.json").read_text())["model"] | {"sha256": "0" * 64})


@pytest.mark.parametrize("damage", [damage_text, damage_schema, damage_number, damage_type, damage_model])
@pytest.mark.parametrize("named", ["file", "directory"])
def test_a_bad_file_among_good_ones_is_named_and_nothing_is_printed(seeds, capsys, damage, named):
    damage(seeds[2])
    bad = [run / "ll.json" if named == "file" else run for run in seeds]
    assert status_of(dvae_eval, "table", *bad) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "mine-seed-2" in captured.err


def damage_samples(run):
    (run / "samples.npz").write_bytes((run / "samples.npz").read_bytes()[:200])


@pytest.mark.parametrize("damage", [damage_text, damage_schema, damage_type, damage_model, damage_samples])
@pytest.mark.parametrize("command", [["figure", "sweeps"], ["figure", "diagnostics"], ["report"]], ids=" ".join)
def test_figures_and_reports_refuse_the_same_files(seeds, tmp_path, cli, damage, command):
    damage(seeds[2])
    made = tmp_path / ("x.svg" if command[0] == "figure" else "x.html")
    status, out, err = cli(*command, *seeds, "-o", made)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "mine-seed-2" in err
    assert not made.exists()


@pytest.mark.parametrize("named", ["file", "directory"])
def test_without_its_model_file_a_result_is_held_against_its_neighbour(run, capsys, named):
    (run / "model.pt").unlink()
    path = run / "ll.json" if named == "file" else run
    assert status_of(dvae_eval, "table", path, "-q") == 0
    damage_model(run)
    assert status_of(dvae_eval, "table", path) == 2
    assert re.search(r"ll\.json.*another model than .*logz\.json", capsys.readouterr().err)


def test_runs_that_are_called_alike_get_the_directories_above_them(tmp_path):
    run = write_run(tmp_path / "deep" / "first" / "mine", dataset="mnist-static")
    other = write_run(tmp_path / "deep" / "second" / "mine", dataset="omniglot", seed=1)
    third = write_run(tmp_path / "deep" / "third", dataset="mnist", seed=2)
    names = ["first/mine", "second/mine", "third"]
    assert [group.name for group in group_runs(read(run, other, third))] == names
    measured = read(run, other, third)
    tables = [*make_tables("table2", measured), *make_tables("results", measured), command_table(measured)]
    for table in tables:
        first = {row[0].text for section in table.sections for row in section.rows}
        assert set(names) <= first
        assert "mine" not in first


@pytest.mark.parametrize(
    ("groups", "names"),
    [
        ([["/a/x"], ["/b/y"]], ["x", "y"]),
        ([["/a/x"], ["/b/x"], ["/b/y"]], ["a/x", "b/x", "y"]),
        ([["/t/a/k/x"], ["/t/b/k/x"], ["/t/c/x"]], ["a/k/x", "b/k/x", "c/x"]),
        ([["/a/x"], ["/a/x"]], ["x", "x"]),  # two results of one run
        ([["/m/p_seed-0", "/m/p_seed-1"], ["/o/p_seed-0", "/o/p_seed-1"]], ["m/p", "o/p"]),
        ([["/w/seed-0", "/w/seed-1"], ["/v/seed-0", "/v/seed-1"]], ["w", "v"]),
        ([["/x"], ["/a/x"]], ["//x", "a/x"]),
    ],
)
def test_names_are_the_shortest_ends_of_paths_that_tell_runs_apart(groups, names):
    assert distinct_names([[Path(path) for path in paths] for paths in groups]) == names


def test_one_model_counts_once(seeds, tmp_path, capsys):
    assert status_of(dvae_eval, "table", *seeds, seeds[0] / "ll.json") == 2
    assert "measures the same model as" in capsys.readouterr().err
    again = tmp_path / "copy"
    shutil.copytree(seeds[1], again)
    with pytest.raises(ResultError, match="same model"):
        group_runs(read(*seeds, again))


@pytest.mark.parametrize("args", [["{tmp}/none.json"], ["--kind", "results"], ["{run}", "-o", "{run}/no/t.md"]])
def test_bad_usage_is_one_line(run, tmp_path, capsys, args):
    assert status_of(dvae_eval, "table", *(arg.format(tmp=tmp_path, run=run) for arg in args)) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)


def test_a_run_that_was_not_measured_says_how(run, capsys):
    (run / "ll.json").unlink()
    assert status_of(dvae_eval, "table", run) == 2
    assert "dvae-eval ll" in capsys.readouterr().err
    assert status_of(dvae_eval, "table", run, "--kind", "results") == 0


# --- formats --------------------------------------------------------------------------------------------------

NASTY = r"a_b & 50% of #1 {x} ~ ^ \ $ <tag> | `code` *star* [link]"


@pytest.fixture
def every_table(tmp_path):
    """All kinds of tables, one with a name that every format has to escape."""
    runs = [write_run(tmp_path / f"m_{i}&", dataset=NASTY if i else "mnist", seed=i) for i in range(2)]
    edit(runs[0] / "ll.json", trustworthy=False, reasons=["≥ 3 σ of λ, see β_0 & 漢 more"])
    measured = read(*runs)
    others = [write_run(tmp_path / f"s_{i}%", dataset=NASTY, seed=i) for i in range(2)]
    steps = group_runs(read(others[0], model_edit(others[1], "model", prior="independent")))
    kinds = [kind for kind in TABLES if kind != "benchmark"]
    tables = [table for kind in kinds for table in make_tables(kind, measured, with_later=True, references=True)]
    own = load_result(ROOT / "benchmarks/results/quick.json")
    return [*tables, contribution_table(steps), command_table(measured), *benchmark_tables([own])]


def shown(table):
    """Return how many columns have anything in them."""
    rows = [row for section in table.sections for row in section.rows]
    return sum(any(row[i].text for row in rows) for i in range(len(table.columns)))


def test_columns_without_content_are_shown_by_csv_alone():
    assert "± images" not in write_table(table_of(), "text")
    assert "std_err_images" in write_table(table_of(), "csv")


def test_csv_holds_the_numbers_as_they_were_measured(seeds):
    table = table_of(*seeds[:1], kind="results")
    (row,) = csv.DictReader(io.StringIO(write_table(table, "csv")))
    result = load_result(seeds[0] / "ll.json")
    for name in ("log_likelihood", "elbo", "std_err_images", "std_err_log_z"):
        assert float(row[name]) == getattr(result, name)
    best = csv.DictReader(io.StringIO(write_table(table_of(), "csv")))
    assert [row["best"] for row in best if row["model"] == "Discrete VAE"] == [
        *("log_likelihood", "elbo log_likelihood", "log_likelihood", "log_likelihood")
    ]


def test_markdown_takes_no_name_for_mathematics_or_struck_out():
    table = Table("t", [Column("a", "a", is_number=False)], [Section("", [[Cell("$x$ ~~y~~")]])])
    assert r"| \$x\$ \~\~y\~\~ |" in write_table(table, "markdown")


@pytest.mark.parametrize("option", ["--references", "--with-later"])
@pytest.mark.parametrize("kind", ["table2", "ablation", "results"])
def test_options_of_table_1_are_refused_elsewhere(run, capsys, kind, option):
    assert status_of(dvae_eval, "table", run, "--kind", kind, option) == 2
    words = f"{option}: needs --kind table1, not {kind}; omit the option"
    assert capsys.readouterr().err == f"dvae-eval: {words}\n"


def test_markdown_has_as_many_cells_in_every_row(every_table):
    for table in every_table:
        lines = [line for line in write_table(table, "markdown").splitlines() if line.startswith("|")]
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {1 + shown(table)}
    assert "**−78.53**" in write_table(every_table[0], "markdown")


def test_latex_is_well_formed(every_table):
    for table in every_table:
        text = write_table(table, "latex")
        assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
        assert len(re.findall(r"\\begin\{table\*?\}", text)) == len(re.findall(r"\\end\{table\*?\}", text)) == 1
        assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}")
        assert not re.findall(r"\\(tiny|scriptsize|footnotesize|resizebox)", text)
        assert {*map(int, re.findall(r"\\fontsize\{(\d+)\}", text))} <= {8, 9}
        body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
        rows = [line for line in body.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
        missing = sum(name.count(",") + 1 for name in re.findall(r"% left out.*: (.*);", text))
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {shown(table) - missing - 1}
        bare = re.sub(r"\\[\\&%$#_{}]|\$\^\\\w+\$", "", text)
        assert not re.findall(r"[#~^]", bare)
        packages = "booktabs,array" if r"\arraybackslash" in text else "booktabs"
        comments = re.findall(r"%.*", bare)
        assert comments[0] == rf"% \usepackage{{{packages}}} in the preamble"
        assert all("--columns" in line or "printed as ?: 漢;" in line for line in comments[1:])


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on the path")
def test_latex_compiles(every_table, tmp_path):
    body = "\n".join(write_table(table, "latex") for table in every_table)
    preamble = "\\documentclass[twocolumn]{article}\n\\usepackage{booktabs,array}\n\\begin{document}\n"
    (tmp_path / "t.tex").write_text(f"{preamble}{body}\n\\end{{document}}\n", encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Missing character" not in done.stdout
    assert "Overfull" not in done.stdout
    assert (tmp_path / "t.pdf").stat().st_size > 10_000


class Balanced(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.open, self.rows = [], []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append(0)
        if tag in ("td", "th"):
            self.rows[-1] += int(dict(attrs).get("colspan", 1))
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_html_is_one_well_formed_page_that_asks_for_nothing(every_table):
    for table in every_table:
        html = write_table(table, "html")
        assert set(Balanced(html).rows) == {shown(table)}
        assert "<tag>" not in html
        assert "://" not in html
        assert html.startswith("<!doctype html>")


def test_text_is_plain_in_a_log_and_fits_a_terminal(every_table):
    for table in every_table:
        plain, narrow = write_table(table, "text"), write_table(table, "text", width=100, color=True)
        assert "\x1b" not in plain
        assert "\x1b[" in narrow
        assert max(len(re.sub(r"\x1b\[[\d;]*m", "", line)) for line in narrow.splitlines()) <= 100
        assert all(line == line.rstrip() for line in plain.splitlines())


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_table_gives_the_same_bytes(seeds, format):
    one, two = (write_table(table_of(*seeds, references=True), format) for _ in range(2))
    assert one == two
    assert one.endswith("\n")


def test_a_table_of_one_unnamed_section():
    table = Table("t", [Column("a", "a"), Column("b", "b")], [Section("", [[Cell("1"), Cell("2")]])])
    assert write_table(table, "csv") == "section,a,b,best,marks\n,1,2,,\n"
    assert write_table(table, "markdown") == "**t**\n\n| a | b |\n| ---: | ---: |\n| 1 | 2 |\n"


@pytest.mark.parametrize(
    ("name", "starts"), [("t.md", "**Test"), ("t.tex", "%"), ("t.csv", "section,"), ("t", "Test")]
)
def test_the_files_name_says_the_format_and_nothing_else_is_printed(run, tmp_path, capsys, name, starts):
    path = tmp_path / name
    assert status_of(dvae_eval, "table", run, "-o", path, "--quiet") == 0
    assert path.read_text(encoding="utf-8").startswith(starts)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert status_of(dvae_eval, "table", run, "-o", path) == 2
    assert status_of(dvae_eval, "table", run, "-o", path, "--force", "--format", "html") == 0
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_formats_that_have_a_name_can_be_written():
    assert set(FORMATS) == set(TABLE_SUFFIXES)
