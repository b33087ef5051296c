"""What people see: every command in terminals of three widths and two encodings, letter for letter."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvae_cli.commands.sweep import progress
from dvae_cli.console import _Phase, bar_lines
from dvae_cli.encoding import encodable
from dvae_cli.main import COMMANDS
from dvae_cli.main import main as dvae_eval
from dvae_cli.train import main as dvae_train
from dvae_core.data import NAMES
from dvae_core.terminal import cell_width, fold, fold_command, fold_parts
from dvae_core.training.presets import PRESETS
from dvae_reports.names import TABLES
from dvae_reports.tables import make_tables
from dvae_reports.tables.formats import write_table
from dvae_reports.tables.table import Cell, Column, Section, Table, map_texts
from tests.cli.test_sweep import in_process  # noqa: F401  (a fixture)
from tests.commands import status_of
from tests.places import PACKAGE_ROOTS, ROOT
from tests.screens import Screen, screen_of, screen_of_process

BENCHMARK = str(ROOT / "benchmarks/results/quick.json")
WIDTHS, ENCODINGS = (40, 80, 120), ("utf-8", "latin-1")
SMALL = ["--left", "4", "--right", "3", "--groups", "2", "--continuous", "2", "--encoder-hidden", "16"]
SMALL += ["--prior-hidden", "none", "--epochs", "3", "--chains", "20", "--sweeps", "2"]
LEFT = r"(?:\d:\d\d:\d\d|-:--:--) left"
everywhere = pytest.mark.parametrize("encoding", ENCODINGS)
at_every_width = pytest.mark.parametrize("width", WIDTHS)
terminals = lambda test: everywhere(at_every_width(test))  # noqa: E731


@pytest.fixture(scope="module")
def run(trained_run, tmp_path_factory):
    """A tiny trained run with its likelihood on a part of the images, which a table marks."""
    directory = tmp_path_factory.mktemp("terminals") / "stripes-from-here"
    shutil.copytree(trained_run, directory)
    assert status_of(dvae_eval, "ll", directory / "model.pt", "--samples", 20, "--limit", 50, "--quiet") == 0
    return directory


@pytest.fixture
def shown(run, monkeypatch):
    """Return a function that runs a command in the directory of the run, and returns (status, whole screen)."""
    monkeypatch.chdir(run.parent)

    def show(main, *args, width, encoding):
        status, screen = screen_of(main, *args, width=width, encoding=encoding, monkeypatch=monkeypatch)
        screen.assert_whole()
        return status, screen

    return show


def bar_of(encoding):
    return "[━─]+" if encoding == "utf-8" else "[#-]+"


def seen(screen):
    """Return all that was on a screen at one time or another."""
    return "\n".join([*screen.frames, screen.text()])


# --- the commands ---------------------------------------------------------------------------------------------


@terminals
def test_training_shows_epoch_bar_and_time_left(shown, width, encoding, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = ("bars-and-stripes", "--out", "here", *SMALL)
    status, screen = shown(dvae_train, *args, width=width, encoding=encoding)
    assert status == 0
    assert re.search(rf"^epoch 1/3 {bar_of(encoding)} .*{LEFT}$", seen(screen), re.MULTILINE)
    # The last of it stays, with the bar full and the numbers of the last epoch whole.
    full = "━" if encoding == "utf-8" else "#"
    assert re.match(rf"epoch 3/3 {full}+ \d:\d\d:\d\d(  |$)", screen.lines[0])
    text = " ".join(screen.text().split())
    assert re.search(r"ELBO -\d+\.\d\d \(train -\d+\.\d\d\) KL \S+ \S+ \+ 0\.00 \|W\| \d\.\d\d \d+ images/s", text)
    assert "next: dvae-eval logz here/model.pt" in screen.lines


@terminals
def test_log_z_shows_its_phase_and_time_left(shown, width, encoding):
    Path("out.state.npz").unlink(missing_ok=True)  # else the run would be at its end
    args = (
        "logz",
        "stripes-from-here/model.pt",
        "--method",
        "pt-bar",
        "--sweeps",
        400,
        "-o",
        "out.json",
        "--force",
    )
    status, screen = shown(dvae_eval, *args, width=width, encoding=encoding)
    assert status == 0
    assert re.search(rf"^pilot \d/\d {bar_of(encoding)} .*{LEFT}$", seen(screen), re.MULTILINE)
    # What has ended has no time left.
    assert not re.search(LEFT, screen.text())
    assert re.search(r"^log Z = \S+ ± \S+ nats", screen.text(), re.MULTILINE)
    assert screen.lines[-1] == "saved: out.json"


@terminals
def test_a_likelihoods_lines_stand_below_one_another(shown, width, encoding):
    Path("ll-out.state.npz").unlink(missing_ok=True)
    args = ("ll", "stripes-from-here/model.pt", "--samples", 20, "--limit", 50, "-o", "ll-out.json", "--force")
    status, screen = shown(dvae_eval, *args, width=width, encoding=encoding)
    assert status == 0
    text = " ".join(screen.text().split())
    for plan in ("50 images x 20 samples: about", "50 simulated images x 20 samples: about"):
        assert text.count(plan) == 1
        assert any(line.startswith(plan[:20]) for line in screen.lines)
    for phase in ("images", "simulated"):
        (line,) = [line for line in screen.lines if line.startswith(f"{phase} 50/50 ")]
        assert re.match(rf"{phase} 50/50 {bar_of(encoding)} \d:\d\d:\d\d", line)
    assert len(re.findall(r"log p\(x\) -\d+\.\d\d \S+ images/s", text)) == 2
    assert screen.lines[-1] == "saved: ll-out.json"


@at_every_width
def test_a_sweep_shows_runs_time_left_and_numbers(shown, in_process, width, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(progress, "POLL_SECONDS", 0.02)
    args = ["sweep", "--out", "s", "--vary", "chains=20 21", "--ll", "--samples 20 --limit 30"]
    training = ["bars-and-stripes-2x2", *SMALL]
    status, screen = shown(dvae_eval, *args, *training, width=width, encoding="utf-8")
    assert status == 0
    assert re.search(rf"^1 of 2 runs\s+{bar_of('utf-8')}.*{LEFT}", seen(screen), re.MULTILINE)
    text = " ".join(screen.text().split())
    assert re.search(rf"2 of 2 runs {bar_of('utf-8')} \d:\d\d:\d\d", text)
    assert not re.search(LEFT, text)
    assert re.search(r"1 of 2 done; about \S+ s left; chains-20_seed-0: log p\(x\) >= -\d+\.\d+ ± ", text)
    assert "2 of 2 done; chains-21_seed-0: log p(x) >= " in text


@terminals
@pytest.mark.parametrize("kind", TABLES)
def test_tables_keep_names_and_marks_whole(shown, run, width, encoding, kind):
    given, name = (run.name, "stripes-from-here") if kind != "benchmark" else (BENCHMARK, "clusters-80x10")
    status, screen = shown(dvae_eval, "table", "--kind", kind, given, "--commands", width=width, encoding=encoding)
    assert status == 0
    text = " ".join(screen.text().split())
    assert name in text
    if kind == "table1":
        assert "stripes-from-here§" in text  # measured on a part of the images
    assert "…" not in text


@terminals
@pytest.mark.parametrize("kind", ["table1", "table2", "ablation"])
def test_the_papers_tables_keep_every_name(shown, width, encoding, kind):
    status, screen = shown(dvae_eval, "table", "--kind", kind, width=width, encoding=encoding)
    assert status == 0
    rows = [row for table in make_tables(kind, []) for section in table.sections for row in section.rows]
    shown_names = [line.split("  ")[0] for line in screen.lines]
    for name in {row[0].text for row in rows}:
        assert shown_names.count(name) == sum(row[0].text == name for row in rows)


def distrusted_table():
    """A table as wide as they come, with marks on long names and an asterisk."""
    names = ["a-run-of-a-long-name-on-mnist", "another-run"]
    columns = [Column("model", "model", is_number=False), Column("ELBO", "elbo"), Column("LL", "log_likelihood")]
    columns += [Column(f"± {what} of all runs", f"std_err_{what}") for what in ("images", "log_z", "seeds")]
    columns += [Column("runs", "n_runs"), Column("source", "source", is_number=False)]
    cells = [
        Cell("−86.12", is_best=True),
        Cell("−85.01"),
        *[Cell("0.123")] * 3,
        Cell("16"),
        Cell("Sønderby et al. 2016"),
    ]
    rows = [[Cell(name, mark="†§"), *cells] for name in names]
    return Table(
        "Test log-likelihoods", columns, [Section("MNIST", rows)], ["† not to be trusted: too few sweeps"]
    )


@pytest.mark.parametrize("width", [*range(31, 130), None])
def test_a_mark_of_distrust_is_never_cut_and_what_is_left_out_is_named(width):
    table = distrusted_table()
    text = write_table(table, "text", width=width)
    assert width is None or max(map(cell_width, text.splitlines())) <= width
    assert "a-run-of-a-long-name-on-mnist†§" in text
    assert "another-run†§" in text
    said = " ".join(text.split())
    left_out = re.search(r"Columns that do not fit: (.*?);", said)
    missing = set(left_out.group(1).split(", ")) if left_out else set()
    # Every column is there, or is named as left out.
    body, _, _ = said.partition("Columns that do not fit")
    words = {column.heading for column in table.columns[1:]}
    assert missing <= words
    for heading in words - missing:
        assert all(word in body for word in heading.split())
    if not missing:
        assert body.count("Sønderby et al. 2016") == 2


def test_a_row_never_loses_all_its_numbers():
    columns = [Column("model", "model", is_number=False), Column("ELBO", "elbo"), Column("LL", "log_likelihood")]
    rows = [[Cell("m" * 20), Cell(), Cell("−85.01")], [Cell("n" * 20), Cell("−87.40"), Cell()]]
    text = write_table(Table("t", columns, [Section("", rows)]), "text", width=30)
    assert "−87.40" in text
    assert "−85.01" in text


@terminals
def test_the_list_of_presets_has_no_row_that_wraps(shown, width, encoding):
    status, screen = shown(dvae_train, "--list-presets", width=width, encoding=encoding)
    assert status == 0
    text = " ".join(screen.text().split())
    for name, preset in PRESETS.items():
        assert any(line.split(" ")[0] == name for line in screen.lines)
        assert " ".join(preset.summary.split()) in text
        assert f"{preset.model.n_left}+{preset.model.n_right}" in text


@terminals
def test_the_list_of_data_sets(shown, width, encoding):
    status, screen = shown(dvae_train, "--list-datasets", width=width, encoding=encoding)
    assert status == 0
    for name in NAMES:
        assert any(line.split(" ")[0] == name for line in screen.lines)


@pytest.mark.parametrize("command", ["train", None, *sorted(COMMANDS)])
@at_every_width
def test_help_fits_and_breaks_no_word(shown, command, width):
    main, *args = (dvae_train,) if command == "train" else (dvae_eval, *([command] if command else []))
    status, screen = shown(main, *args, "--help", width=width, encoding="utf-8")
    assert status == 0
    assert screen.lines[0].startswith("Usage: dvae-")
    # Examples are lines that can be pasted: the shell puts them together again.
    pasted = re.sub(r" \\\n\s+", " ", screen.text())
    assert re.search(r"^ +dvae-(train|eval) \S", pasted, re.MULTILINE)


def test_errors_and_commands_in_messages(shown):
    status, screen = shown(dvae_train, "no-such-set", "--out", "x", width=40, encoding="utf-8")
    assert status == 2
    assert len(screen.lines) > 1
    again = ("bars-and-stripes", "--out", "stripes-from-here")
    status, screen = shown(dvae_train, *again, width=40, encoding="utf-8")
    assert " ".join(screen.text().split()).endswith("give --resume to continue it, or another directory")


# --- processes of their own, as a shell starts them -----------------------------------------------------------


def environment(**changes):
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    return kept | {"PYTHONPATH": os.pathsep.join(PACKAGE_ROOTS), "TERM": "xterm-256color"} | changes


@pytest.mark.parametrize(("width", "encoding"), [(40, "latin-1"), (80, "utf-8")])
def test_a_process_in_a_terminal(run, monkeypatch, width, encoding):
    monkeypatch.chdir(run.parent)
    command = [sys.executable, "-m", "dvae_cli.main", "ll", f"{run.name}/model.pt", "--samples", "20"]
    command += ["--limit", "20", "-o", f"ll-{width}.json"]
    done = environment(PYTHONIOENCODING=encoding)
    status, screen = screen_of_process(command, width=width, encoding=encoding, environment=done)
    screen.assert_whole()
    assert status == 0
    assert re.search(rf"^images 20/20 {bar_of(encoding)} \d:\d\d:\d\d", screen.text(), re.MULTILINE)
    assert screen.lines[-1] == f"saved: ll-{width}.json"


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "ascii", "utf-8"])
def test_every_help_and_table_can_be_written_in_every_encoding(encoding, tmp_path):
    code = """if True:
        import sys
        from dvae_cli.main import COMMANDS, main
        from dvae_cli.train import main as train
        calls = [(train, ["--help"]), (train, ["--list-presets"]), (main, ["--help"])]
        calls += [(main, [name, "--help"]) for name in COMMANDS]
        calls += [(main, ["table", "--kind", kind, "--references"][:4 if kind == "table1" else 3])
                  for kind in ("table1", "table2", "ablation")]
        for main, args in calls:
            try:
                main(args)
            except SystemExit as exit:
                assert exit.code == 0, args
    """
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(PYTHONIOENCODING=encoding), capture_output=True, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode("utf-8" if encoding == "ascii" else encoding)
    assert "Caltech-101 Silhouettes" in text
    # Click takes an ASCII stream for one that can do more; whatever it is, the numbers have their signs.
    assert re.search(r"[-−]80\.15\*", text)
    if encoding == "latin-1":
        assert "Sønderby" in text
        assert not set("−†─") & set(text)


# --- the parts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "encoding", "plain"),
    [
        ("−86.1 ± 0.2 †", "latin-1", "-86.1 ± 0.2 !"),
        ("−86.1 ± 0.2 †", "cp1252", "-86.1 ± 0.2 †"),
        ("−86.1 ± 0.2 † § ‡", "ascii", "-86.1 +- 0.2 ! % ^"),
        ("p ∝ exp(−β E)", "latin-1", "p ~ exp(-beta E)"),
        ("12\u202f000", "latin-1", "12 000"),
        ("läufe/東京", "latin-1", "läufe/\\u6771\\u4eac"),
        ("name-\udcff", "utf-8", "name-\\xff"),
        ("unchanged − † 東京", "utf-8", "unchanged − † 東京"),
    ],
)
def test_what_an_encoding_lacks_is_said_otherwise(text, encoding, plain):
    assert encodable(text, encoding) == plain
    plain.encode(encoding)


def test_marks_stay_distinct_and_columns_in_line_without_their_letters():
    table = map_texts(distrusted_table(), lambda text: encodable(text, "ascii"))
    text = write_table(table, "text")
    text.replace("─", "-").encode("ascii")
    assert text.count("another-run!%") == 1
    assert "! not to be trusted" in text
    assert len({line.rindex("S\\u00f8nderby") for line in text.splitlines() if "nderby" in line}) == 1


def test_json_stays_json_in_every_encoding():
    value = {"file": "läufe/東京/−𝔷", "mark": "†"}
    text = encodable(json.dumps(value, ensure_ascii=False), "ascii")
    assert json.loads(text)["file"].startswith("läufe/東京/-𝔷")


words = st.lists(st.text("abcλ東é−", min_size=1, max_size=12), min_size=1, max_size=30)


@given(words, st.integers(24, 100))
def test_folding_keeps_every_word_and_the_width(words, width):
    text = " ".join(words)
    for lines in (fold(text, width), fold_parts(words, width, "  "), fold(f"  {text}", width)):
        assert " ".join(" ".join(lines).split()) == text
        assert all(cell_width(line) <= width for line in lines if len(line.split()) > 1)
    pasted = "\n".join(fold_command(text, width, "  "))
    assert pasted.replace("\\\n", "").split() == words


@pytest.mark.parametrize("width", range(24, 110))
def test_an_equals_sign_stays_with_its_name(width):
    text = "β = 0.5      <E> = -12.345 ± 0.012, C = 3.456 ± 0.012, S = 4.567 ± 0.012, log Z = 12.345 ± 0.012"
    lines = fold(text, width)
    assert not [line for line in lines if line.split()[0] in ("=", "Z")]
    assert max(map(cell_width, lines)) <= width
    assert " ".join(lines).split() == text.split()


@given(
    st.text("abcd ", min_size=1, max_size=14).map(str.strip).filter(bool),
    st.integers(0, 10**7),
    st.integers(1, 10**7),
    st.lists(
        st.sampled_from(["log Z 12.345 ± 0.012", "1.21e+03 images/s", "ELBO -1.00 (train -1.00)"]), max_size=3
    ),
    st.integers(24, 200),
    st.floats(0, 1e6),
)
def test_bars_fit_and_lose_nothing(name, done, total, parts, width, seconds):
    done = min(done, total)
    phase = _Phase(f"{name} {done}/{total}", done, total, parts, is_over=done == total)
    lines = bar_lines(phase, seconds, width, ascii_only=False)
    assert max(map(cell_width, lines)) <= width
    text = " ".join(" ".join(lines).split())
    assert f"{done}/{total}" in text
    assert re.search("[━─]", text)
    assert ("left" in text) == (done < total)
    assert all(part in text for part in parts)


def test_the_screen_itself_sees_what_it_is_to_see():
    screen = Screen(10)
    screen.feed("0123456789\nabc\rx\x1b[2Kdone\n12345678901")
    assert screen.lines[:2] == ["0123456789", " done"]
    assert screen.overwritten == ["abc"]
    assert screen.broken == ["12345678901"]
