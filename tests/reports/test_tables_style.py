"""Tables for papers: labels, columns, digits, errors in cells, citations, and files for programs."""

import csv
import io
import json
import re
import shutil
import subprocess

import pytest

from dvae_cli.main import main as dvae_eval
from dvae_core.errors import ConfigError
from dvae_core.text import estimate, signed
from dvae_eval.results import load_result
from dvae_reports.names import TABLES
from dvae_reports.results import published
from dvae_reports.results.groups import group_runs
from dvae_reports.results.labels import labelled
from dvae_reports.results.loaded import load_results
from dvae_reports.results.paired import difference, mean_difference
from dvae_reports.tables import make_tables
from dvae_reports.tables.bibtex import write_bib
from dvae_reports.tables.formats import write_table, write_tables
from dvae_reports.tables.latex import left_out
from dvae_reports.tables.style import TableStyle, styled_tables
from dvae_reports.tables.table import Cell, Column, Section, Table
from tests.commands import status_of
from tests.reports.test_report_run import edit, write_run
from tests.reports.test_tables import model_edit, read, row_of, rows_of


@pytest.fixture
def runs(tmp_path):
    """Two settings with two seeds each, on the same images of a data set of the paper's."""
    paths = []
    for setting in (1, 4):
        for seed in (0, 1):
            run = write_run(tmp_path / f"groups-{setting}_seed-{seed}", dataset="mnist", seed=10 * setting + seed)
            model_edit(model_edit(run, "train", seed=seed), "model", n_groups=setting)
            model = json.loads((run / "ll.json").read_text())["model"]
            edit(run / "ll.json", model=model | {"prior_sha256": run.name})
            paths.append(run)
    return paths


def styled(tables, format="text", **style):
    return styled_tables(tables, TableStyle(**style), format)


def table_of(runs, kind="results", format="text", labels=(), baseline="", **style):
    measured = labelled(read(*runs), labels)
    return styled(make_tables(kind, measured, baseline=baseline), format, **style)[0]


# --- labels ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["{run}", "{run}/ll.json", "{run}/model.pt/..", "groups-4", "groups-4_seed-1"])
def test_a_label_names_a_run_and_its_seeds_by_a_path_or_what_is_shown(runs, name):
    given = name.format(run=runs[3])
    if name.endswith(".."):
        given = str(runs[3] / ".." / runs[3].name)
    likelihoods, log_zs = make_tables("results", labelled(read(*runs), [(given, "four")]))
    assert [row["run"].text for row in rows_of(likelihoods)] == ["groups-1", "four"]
    # Seeds that stand in rows of their own are told apart by their seed.
    assert [row["model"].text for row in rows_of(log_zs)] == [
        *("groups-1_seed-0", "groups-1_seed-1", "four, seed 0", "four, seed 1")
    ]


def test_labels_stand_in_notes_too(runs):
    edit(runs[0] / "ll.json", trustworthy=False, reasons=["x"])
    table = table_of(runs[:1], labels=[(str(runs[0]), "ours")])
    assert "† ours: may be wrong: x." in table.notes


@pytest.mark.parametrize(
    ("labels", "name", "first", "second"),
    [((), "groups-4", "groups-4_seed-0", "groups-4_seed-1"), ([("groups-4", "four")], "four", "seed 0", "seed 1")],
)
def test_a_note_on_several_seeds_says_what_helps_once(runs, labels, name, first, second):
    for run, gap in zip(runs[2:], (2.2, 2.4), strict=True):
        edit(run / "ll.json", trustworthy=False, reasons=[f"gap: {gap}; more", "half: 3; more", "odd"])
    said = f"{first}: gap: 2.2; half: 3; {second}: gap: 2.4; half: 3; more; {first}: odd; {second}: odd"
    assert f"† {name}: may be wrong: {said}." in table_of(runs, labels=labels).notes


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (
            [("elsewhere", "a")],
            "elsewhere is none of the results; give one of their paths, or groups-1, groups-4, ",
        ),
        ([("groups-1", "a"), ("groups-4", "a")], "a is the name of two rows"),
        ([("groups-1_seed-0", "a"), ("groups-1_seed-1", "b")], "has two labels, a and b"),
    ],
)
def test_labels_that_mean_nothing_or_two_things_are_refused(runs, labels, words):
    with pytest.raises(ConfigError, match=f"^--label: .*{re.escape(words)}"):
        labelled(read(*runs), labels)


# --- columns, order, digits, errors ---------------------------------------------------------------------------


def test_columns_are_those_that_were_chosen_in_their_order(runs):
    table = table_of(runs, columns=("n_runs", "elbo", "std_err"))
    assert [column.name for column in table.columns] == ["run", "n_runs", "elbo"]
    # The legend explains what is shown, and nothing else.
    assert "standard deviation" not in write_table(table, "text")
    # The table of log Z has one of them, and one with none is left out.
    tables = make_tables("results", read(*runs))
    assert [t.name for t in styled(tables, columns=("elbo", "std_err"))] == ["log-likelihoods", "log-z"]
    assert [t.name for t in styled(tables, columns=("elbo",))] == ["log-likelihoods"]
    # That of log Z has a column of log-likelihoods, but here nothing in it.
    for format in ("text", "latex", "csv"):
        assert [t.name for t in styled(tables, format, columns=("log_likelihood",))] == ["log-likelihoods"]
    assert [t.name for t in styled(tables[1:], columns=("log_likelihood",))] == ["log-z"]


@pytest.mark.parametrize(("option", "style"), [("--columns", {"columns": ("LL",)}), ("--order", {"order": "LL"})])
def test_a_column_that_is_not_there_is_refused_with_those_that_are(runs, option, style):
    with pytest.raises(ConfigError, match=f"{option}: no column is called LL; choose from run, elbo, log_lik"):
        table_of(runs, **style)


def test_rows_are_ordered_by_name_or_by_their_largest_number(runs):
    given = [runs[i] for i in (2, 3, 0, 1)]
    values = {g.name: g.log_likelihood for g in group_runs(read(*runs))}
    best_first = sorted(values, key=values.__getitem__, reverse=True)
    orders = {"given": ["groups-4", "groups-1"], "name": ["groups-1", "groups-4"], "log_likelihood": best_first}
    for order, names in orders.items():
        assert [row["run"].text for row in rows_of(table_of(given, order=order))] == names
    # Within a section, published numbers among measured ones, and empty ones last.
    table = table_of(runs, "table1", order="log_likelihood")
    shown = [float(str(row["log_likelihood"].value)) for row in rows_of(table)]
    assert shown == sorted(shown, reverse=True)
    paper = styled(make_tables("table1", []), order="elbo")[0].sections[1]
    assert [row[0].text for row in paper.rows[:3]] == ["Discrete VAE", "Normalizing flows", "DRAW"]


def test_hyphens_are_as_good_as_underscores(runs, capsys):
    options = ["--kind", "results", "--columns", "std-dev,log-likelihood", "--order", "log-likelihood"]
    assert status_of(dvae_eval, "table", *runs, *options, "--format", "csv") == 0
    assert capsys.readouterr().out.splitlines()[0] == "section,run,std_dev,log_likelihood,best,marks"


def test_digits_are_those_asked_for_but_published_numbers_stay_as_printed(runs):
    table = table_of(runs, "table1", digits=1)
    row, group = row_of(table, "groups-1"), group_runs(read(*runs))[0]
    assert row["log_likelihood"].text == f"−{-group.log_likelihood:.1f}"
    assert row["std_dev"].text == f"{group.std_dev:.1f}"
    assert row["gap_to_paper"].text == f"+{group.log_likelihood + 80.15:.1f}"
    assert row["n_runs"].text == "2"
    assert row_of(table, "IWAE")["log_likelihood"].text == "−82.90"
    # Programs get what was measured.
    assert row_of(table_of(runs, digits=1, format="csv"), "groups-1") == row_of(table_of(runs), "groups-1")


def test_an_error_stands_in_the_cell_of_its_number(runs):
    _, four = group_runs(read(*runs))
    table = table_of(runs, with_errors=True)
    assert [c.name for c in table.columns if "std" in c.name] == []
    # Of seeds their spread.
    assert row_of(table, "groups-4")["log_likelihood"].text == estimate(four.log_likelihood, four.std_dev)
    assert "a lower bound in expectation, ± sd of runs." in write_table(table, "text")
    # Of single runs the paired error, and of one alone that over images and log Z.
    single = group_runs(read(runs[0], runs[2]))
    row = row_of(table_of([runs[0], runs[2]], with_errors=True), "groups-1_seed-0")
    assert row["log_likelihood"].text == estimate(single[0].log_likelihood, single[0].paired_std_err)
    (alone,) = group_runs(read(runs[0]))
    row = row_of(table_of(runs[:1], with_errors=True), "groups-1_seed-0")
    assert row["log_likelihood"].text == estimate(alone.log_likelihood, alone.std_err)
    result = load_result(runs[0] / "ll.json")
    assert row["log_z"].text == estimate(result.log_z, result.std_err_log_z)
    # Published ones as they were printed; those without stay alone.
    table = table_of(runs, "table1", with_errors=True)
    assert row_of(table, "Discrete VAE")["log_likelihood"].text == "−80.15 ± 0.08"
    assert row_of(table, "IWAE")["log_likelihood"].text == "−82.90"


def test_an_error_whose_column_was_chosen_stays_in_it(runs):
    table = table_of(runs, with_errors=True, columns=("log_likelihood", "std_dev"))
    row = row_of(table, "groups-4")
    assert "±" not in row["log_likelihood"].text
    assert row["std_dev"].text


def test_latex_has_errors_in_cells_unless_asked_not_to(runs):
    assert "±" in row_of(table_of(runs, format="latex"), "groups-4")["log_likelihood"].text
    for format, style in (("latex", {"with_errors": False}), ("text", {}), ("csv", {"with_errors": True})):
        assert "±" not in row_of(table_of(runs, format=format, **style), "groups-4")["log_likelihood"].text


# --- the gain over a baseline ---------------------------------------------------------------------------------


def test_the_gain_is_the_paired_difference_with_its_error(runs):
    one, four = group_runs(read(*runs))
    gain = mean_difference(four.results, one.results)
    for baseline in ("groups-1", str(runs[1]), str(runs[0] / "ll.json")):
        row = row_of(table_of(runs, baseline=baseline), "groups-4")
        assert row["gain"].value == gain.log_likelihood
        assert row["std_err_gain"].value == gain.std_err
    row = row_of(table_of(runs, baseline="groups-1"), "groups-1")
    assert (row["gain"].text, row["std_err_gain"].text) == ("", "")
    cell = row_of(table_of(runs, baseline="groups-1", with_errors=True), "groups-4")["gain"]
    text = estimate(gain.log_likelihood, gain.std_err)
    assert cell.text == (text if gain.log_likelihood < 0 else f"+{text}")
    # The error is that of the differences: of single seeds it lacks what seeds do, and is the images'.
    single = difference(load_result(runs[2] / "ll.json"), load_result(runs[0] / "ll.json"))
    row = row_of(table_of([runs[0], runs[2]], baseline=str(runs[0])), "groups-4_seed-0")
    assert row["gain"].text == signed(single.log_likelihood, row["gain"].digits)
    assert row["std_err_gain"].value == single.std_err


def test_other_images_have_no_gain_and_a_doubtful_baseline_is_said(runs):
    images = json.loads((runs[2] / "ll.json").read_text())["per_image"]
    edit(runs[2] / "ll.json", per_image=images | {"index": list(range(899))})
    edit(runs[0] / "ll.json", trustworthy=False, reasons=["x"])
    table = table_of([runs[0], runs[2]], baseline=str(runs[0]))
    assert row_of(table, "groups-4_seed-0")["gain"].text == ""
    assert table.notes[-2:] == [
        "No gain, because measured on other images than groups-1_seed-0: groups-4_seed-0.",
        "All gains are relative to groups-1_seed-0, which may be wrong: measure it again first.",
    ]
    # Nor have other data, whose images may have the same numbers.
    model_edit(runs[3], "provenance", data_sha256="d2" * 32)
    assert row_of(table_of(runs[:4:3], baseline=str(runs[0])), "groups-4_seed-1")["gain"].text == ""


def test_a_baseline_may_be_called_by_its_name_or_its_label(runs, capsys):
    outs = []
    for name in ("groups-1", "ours", str(runs[0])):
        options = ["--kind", "results", "--label", "groups-1=ours", "--baseline", name]
        assert status_of(dvae_eval, "table", *runs, *options) == 0
        outs.append(capsys.readouterr().out)
    assert "minus that of ours" in outs[0]
    assert outs[0] == outs[1] == outs[2]


def test_a_baseline_that_is_not_there_is_refused(runs, capsys):
    assert status_of(dvae_eval, "table", *runs, "--kind", "results", "--baseline", "nobody") == 2
    said = "--baseline: nobody is none of the results; give one of their paths, or groups-1, groups-4"
    assert capsys.readouterr().err == f"dvae-eval: {said}\n"


# --- LaTeX and its .bib ---------------------------------------------------------------------------------------


def test_caption_and_label_are_of_the_first_table_and_others_have_names(runs):
    first, second = styled(make_tables("results", read(*runs)), caption="Ours & theirs", label="tab:r")
    assert r"\caption{Ours \& theirs}\label{tab:r}" in write_table(first, "latex")
    assert r"\caption{$\log Z$}\label{tab:r-log-z}" in write_table(second, "latex")
    assert write_table(first, "text").startswith("Ours & theirs\n")


@pytest.mark.parametrize("format", ["text", "markdown", "html", "json"])
def test_without_notes_there_are_none(runs, format):
    edit(runs[0] / "ll.json", trustworthy=False, reasons=["a very special reason"])
    tables = make_tables("results", read(*runs))
    assert "a very special reason" in write_tables(styled(tables, format), format)
    text = write_tables(styled(tables, format, notes=False), format)
    assert "a very special reason" not in text
    assert "†" in text  # a mark is no note


def test_notes_that_latex_does_not_print_are_its_comments(runs):
    text = write_table(table_of(runs, format="latex", notes=False), "latex")
    assert "minipage" not in text
    assert any(line.startswith("% $\\log p(x)$: log-likelihood") for line in text.splitlines())


def test_numbers_and_heads_are_mathematics(runs):
    text = write_table(table_of(runs, format="latex"), "latex")
    assert r"run & ELBO & $\log p(x)$ & runs & samples & verdict \\" in text
    assert re.search(r"\$-\d\d\.\d+ \\pm 0\.\d+\$", text)
    assert r"$10\,000$" in text
    text = write_table(styled(make_tables("results", read(*runs)), "latex")[1], "latex")
    assert r"model & $\log Z$ &" in text
    # A name stays a name, and part of a word is no mathematics.
    table = Table("catalog Z, log Z", [Column("a", "a", is_number=False)], [Section("", [[Cell("log Z")]])])
    text = write_table(table, "latex")
    assert r"\caption{catalog Z, $\log Z$}" in text
    assert "\nlog Z \\\\" in text


def test_names_and_captions_are_letters_but_for_their_mathematics():
    name = "a_b & 5% #1 ~^{}\\ η=1 Δ → “x” $\\beta_1$ 中文 5$"
    table = Table("$K=4$ 文", [Column("a", "a", is_number=False)], [Section("", [[Cell(name)]])])
    text = write_table(table, "latex")
    assert r"\caption{$K=4$ ?}" in text
    assert r"a\_b \& 5\% \#1 \textasciitilde{}\textasciicircum{}\{\}\textbackslash{} " in text
    assert r"$\eta$=1 $\Delta$ $\to$ ``x'' $\beta_1$ ?? 5\$ \\" in text
    assert left_out(table) == ["printed as ?: 文中; replace them with --label or --caption"]


def wide_table(n, text="0.123456"):
    columns = [Column("name", "name", is_number=False), *(Column(f"c {i}", f"c{i}") for i in range(n))]
    return Table("t", columns, [Section("", [[Cell("x" * 12), *(Cell(text) for _ in range(n))]])])


def test_a_table_is_as_wide_as_it_must_be_and_never_below_8_pt():
    found = {}
    for n in (1, 3, 5, 9, 10, 30):
        text = write_table(wide_table(n), "latex")
        (kind,) = re.findall(r"\\begin\{(table\*?)\}", text)
        (size,) = re.findall(r"\\fontsize\{(\d+)\}", text)
        found[n] = (kind, size, bool(left_out(wide_table(n))))
    assert found[1] == found[3] == ("table", "9", False)
    assert found[9] == ("table*", "9", False)
    assert found[10] == ("table*", "8", False)
    assert found[30] == ("table*", "8", True)
    assert "% wider than the page; choose fewer columns with --columns" in write_table(wide_table(30), "latex")


def test_columns_that_may_give_way_do_and_are_named():
    table = wide_table(10)
    names = ("source", "n_samples")
    columns = [Column(name.replace("_", " "), name) for name in names]
    rows = [[*row, Cell("0.1234567"), Cell("0.1234567")] for row in table.rows]
    wide = Table("t", [*table.columns, *columns], [Section("", rows)])
    assert left_out(wide) == ["left out, wider than the page: source, n_samples; choose others with --columns"]
    assert "n samples" not in write_table(wide, "latex").replace("% left out", "")


@pytest.mark.parametrize("kind", TABLES)
def test_every_citation_has_an_entry(runs, kind):
    tables = styled(make_tables(kind, read(*runs), with_later=True), "latex", cite=True)
    bib = write_bib(tables)
    cited = set(re.findall(r"\\cite\{(\w+)\}", write_tables(tables, "latex")))
    assert ("cite no publication" in bib) == (not cited)
    assert bool(cited) == (kind in ("table1", "ablation"))
    assert cited <= {*re.findall(r"^@\w+\{(\w+),$", bib, re.M)}
    assert "cite" not in write_tables(styled(tables, "latex"), "latex")


def test_the_bib_has_what_is_recorded_and_nothing_else():
    bib = write_bib(make_tables("table1", [], with_later=True))
    keys = re.findall(r"^@\w+\{(\w+),$", bib, re.M)
    assert set(keys) == set(published.bibliography())
    for entry in bib.strip().split("\n\n"):
        assert entry.count("{") == entry.count("}")
        key = re.match(r"@\w+\{(\w+),", entry)[1]
        fields = dict(re.findall(r"^  (\w+) = \{(.*)\},$", entry, re.M))
        source = published.bibliography()[key]
        assert fields["author"].split(" and ") == source.authors
        assert fields["title"] == f"{{{source.title}}}"
        assert fields["year"] == str(source.year)
        assert fields.get("eprint", "") == source.arxiv
        assert fields.get("journal", fields.get("booktitle", "")) == source.journal or source.booktitle
    assert "@article{hinton2006," in bib
    assert "pages = {1527--1554}" in bib


def test_references_in_words_are_those_of_the_entries():
    references = {key: source.reference for key, source in published.bibliography().items()}
    assert references["hinton2006"] == (
        "Geoffrey Hinton, Simon Osindero and Yee-Whye Teh. A fast learning algorithm for deep belief nets. "
        "Neural Computation 18(7):1527-1554, 2006"
    )
    assert references["du2015"].endswith("doubly stochastic MCMC. arXiv:1506.04557, 2015")
    assert references["rolfe2017"] == (
        "Jason Tyler Rolfe. Discrete variational autoencoders. ICLR 2017, arXiv:1609.02200"
    )
    assert references["smolensky1986"].endswith("harmony theory. Parallel Distributed Processing 1, 1986")


def test_the_command_writes_the_table_and_its_bib(runs, tmp_path, capsys):
    table, bib = tmp_path / "t.tex", tmp_path / "refs.bib"
    assert status_of(dvae_eval, "table", *runs, "-o", table, "--bib", bib) == 0
    assert capsys.readouterr().err == f"saved: {table}\nsaved: {bib}\n"
    assert r"IWAE &  & $-82.90$ &" in table.read_text(encoding="utf-8")
    assert r"\cite{burda2016}" in table.read_text(encoding="utf-8")
    assert "@inproceedings{burda2016," in bib.read_text(encoding="utf-8")


def test_a_second_table_adds_what_the_bib_lacks_and_nothing_is_lost(runs, tmp_path, capsys):
    bib = tmp_path / "refs.bib"
    own = "% ours\n@book{own,\n  title = {B},\n}\n\n@misc{ rolfe2017 ,\n}\n"
    bib.write_text(own, encoding="utf-8")
    for i, kind in enumerate(("ablation", "table1", "ablation")):
        assert status_of(dvae_eval, "table", *runs, "--kind", kind, "-o", tmp_path / f"{i}.tex", "--bib", bib) == 0
    text = bib.read_text(encoding="utf-8")
    assert text.startswith(own)
    keys = re.findall(r"^@\w+\{ ?(\w+)", text, re.M)
    assert len(keys) == len(set(keys)) > 5
    assert {"own", "rolfe2017", "burda2016"} <= set(keys)
    bib.write_bytes(b"@misc{x, author={Jos\xe9}}")
    capsys.readouterr()
    assert status_of(dvae_eval, "table", *runs, "-o", tmp_path / "x.tex", "--bib", bib) == 2
    assert f"--bib: {bib}: cannot be read as UTF-8" in capsys.readouterr().err
    assert not (tmp_path / "x.tex").exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--bib", "{tmp}/b.bib"], "--bib: needs LaTeX, not text; give --format latex, or omit the option"),
        (["--latex-label", "tab:x", "--format", "csv"], "--latex-label: needs LaTeX, not csv"),
        (["--baseline", "x"], "--baseline: needs --kind results, not table1; omit the option"),
        (["--digits", "many"], "'many' is neither auto nor an integer from 0 to 9"),
        (["--label", "nothing"], "'nothing' is not of the form RUN=NAME"),
        (["--columns", "LL"], "--columns: no column is called LL"),
        (["--label", "x=y"], "--label: x is none of the results"),
    ],
)
def test_bad_options_are_one_line_and_write_nothing(runs, tmp_path, capsys, args, words):
    before = sorted(tmp_path.iterdir())
    assert status_of(dvae_eval, "table", *runs, *(arg.format(tmp=tmp_path) for arg in args)) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert words in captured.err
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on the path")
def test_a_two_column_page_of_tables_compiles_with_its_bibliography(runs, tmp_path):
    for name, args in {
        "one.tex": ["--bib", tmp_path / "refs.bib", "--with-later"],
        "two.tex": ["--kind", "results", "--baseline", runs[0], "--label", f"{runs[0]}=plain", "--commands"],
        "three.tex": ["--kind", "ablation", "--no-notes"],
        "four.tex": ["--kind", "results", "--columns", "log-likelihood,gain", "--baseline", runs[0]],
    }.items():
        assert status_of(dvae_eval, "table", *runs, *args, "-o", tmp_path / name, "-q") == 0
    inputs = "\n".join(rf"\input{{{name}}}" for name in ("one", "two", "three", "four"))
    text = "\n".join(
        [
            "\\documentclass[twocolumn]{article}",
            "\\usepackage{booktabs,array}",
            "\\begin{document}",
            inputs,
            "\\bibliographystyle{plain}\\bibliography{refs}",
            "\\end{document}",
        ]
    )
    (tmp_path / "paper.tex").write_text(text, encoding="utf-8")
    for command in (["pdflatex"], ["bibtex"], ["pdflatex"], ["pdflatex"]):
        options = ["-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape"] * (command != ["bibtex"])
        done = subprocess.run(
            [*command, *options, "paper"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2000:]
    for word in ("Missing character", "Overfull", "undefined", "multiply defined"):
        assert word not in done.stdout.replace("Font shape `OMS/cmtt/m/n' undefined", "")


# --- for programs ---------------------------------------------------------------------------------------------


def test_every_table_has_a_csv_file_of_its_own(runs, tmp_path, capsys):
    options = [*runs, "--kind", "results", "--commands", "-o", tmp_path / "t.csv"]
    assert status_of(dvae_eval, "table", *options) == 0
    names = ["t.csv", "t-log-z.csv", "t-commands.csv"]
    assert capsys.readouterr().err == "".join(f"saved: {tmp_path / name}\n" for name in names)
    texts = [(tmp_path / name).read_text(encoding="utf-8") for name in names]
    tables = [list(csv.DictReader(io.StringIO(text))) for text in texts]
    assert [len(table) for table in tables] == [2, 4, 12]
    assert float(tables[1][0]["log_z"]) == load_result(runs[0] / "logz.json").log_z
    # None of them is lost to a second call, and none is written if one cannot be.
    (tmp_path / "t.csv").unlink()
    assert status_of(dvae_eval, "table", *options) == 2
    assert "t-log-z.csv exists" in capsys.readouterr().err
    assert not (tmp_path / "t.csv").exists()


def test_json_holds_the_tables_of_csv_and_of_text(runs, tmp_path):
    edit(runs[0] / "ll.json", trustworthy=False, reasons=["x"])
    tables = make_tables("table1", read(*runs))
    assert status_of(dvae_eval, "table", *runs, "--commands", "-o", tmp_path / "t.json", "-q") == 3
    first, second = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    assert (first["name"], second["name"]) == ("table-1", "commands")
    assert first["title"] == tables[0].title
    of_csv = list(csv.DictReader(io.StringIO(write_table(tables[0], "csv"))))
    assert len(first["rows"]) == len(of_csv)
    for row, same in zip(first["rows"], of_csv, strict=True):
        assert (row["section"], row["marks"], " ".join(row["best"])) == (
            same["section"],
            same["marks"],
            same["best"],
        )
        for column in first["columns"]:
            value, text = row["values"][column["name"]], same[column["name"]]
            assert value == (float(text) if isinstance(value, float | int) else text or None)
    row = first["rows"][1]
    assert (row["values"]["log_likelihood"], row["texts"]["log_likelihood"]) == (-82.9, "−82.90")


def test_files_of_lines_are_read_and_named_by_their_machines(runs, tmp_path, capsys):
    """Of one machine each, of one folder or of several, or of updates of one archive."""
    results = [load_result(run / "logz.json") for run in runs[:2]]
    lines = tmp_path / "all.jsonl"
    lines.write_text("".join(result.to_json() + "\n" for result in results), encoding="utf-8")
    assert status_of(dvae_eval, "table", lines, "--kind", "results", "--format", "json") == 0
    (table,) = json.loads(capsys.readouterr().out)
    assert [row["values"]["model"] for row in table["rows"]] == [f"{run.name}/model" for run in runs[:2]]
    assert [row["values"]["log_z"] for row in table["rows"]] == [result.log_z for result in results]
    models = [{**result.model, "file": "a.h5", "update": i} for i, result in enumerate(results)]
    archive = [json.loads(r.to_json()) | {"model": m} for r, m in zip(results, models, strict=True)]
    lines.write_text("".join(json.dumps(one) + "\n" for one in archive), encoding="utf-8")
    assert [name for name, *_ in ((one.place.name, one) for one in load_results(lines))] == [
        "update-0",
        "update-1",
    ]
    lines.write_text("\n", encoding="utf-8")
    assert status_of(dvae_eval, "table", lines, "--kind", "results") == 2
    assert "contains no result" in capsys.readouterr().err


def test_a_report_reads_the_lines_of_one_machine(runs, tmp_path, capsys):
    result = load_result(runs[0] / "logz.json")
    lines, page = tmp_path / "all.jsonl", tmp_path / "page.html"
    lines.write_text(result.to_json() + "\n", encoding="utf-8")
    assert status_of(dvae_eval, "report", lines, "-o", page, "-q") == 0
    assert "log Z" in page.read_text(encoding="utf-8")
    lines.write_text(2 * (result.to_json() + "\n"), encoding="utf-8")
    assert status_of(dvae_eval, "report", lines, "-o", page, "--force", "-q") == 2
    assert "give only one; dvae-eval table shows several" in capsys.readouterr().err


@pytest.mark.parametrize("width", [40, 80, 120])
def test_styled_tables_fit_their_terminals(runs, width):
    tables = styled(
        make_tables("results", read(*runs), baseline="groups-1"), with_errors=True, caption="A caption " * 12
    )
    text = write_tables(tables, "text", width=width)
    assert max(map(len, text.splitlines())) <= width
    assert text == write_tables(tables, "text", width=width)
