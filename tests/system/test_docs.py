"""The documentation: it builds without a warning, it is complete, and every block of code in it runs."""

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from dvae_cli.main import COMMANDS
from dvae_cli.main import main as dvae_eval
from dvae_cli.train import command as train_command
from tests.cli.test_sweep import in_process  # noqa: F401  (a fixture)
from tests.commands import status_of
from tests.lines_of_code import lines_of_code
from tests.places import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))

sys.path.append(str(DOCS))  # where the site's own modules lie

import run_page as site_pages  # noqa: E402

# Python that is shown but needs what the tests do not have is compiled alone.
LANGUAGES = (*site_pages.EXECUTED, *site_pages.SCRIPTS, *site_pages.SHOWN, "py")


def hooks():
    """Return docs/hooks.py as a module."""
    return importlib.import_module("hooks")


# --- the code -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_every_block_of_code_runs(page, tmp_path, monkeypatch, in_process):  # noqa: F811
    """In the order of the page, in one directory and one namespace: as a reader would who types it."""
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    site_pages.link_results()
    site_pages.run_page(text, site_pages.TINY)
    # Commands that are only shown name files that those above have made.
    for language, code in site_pages.blocks(text):
        assert language in LANGUAGES, f"{page}: say how a block of {language!r} is checked"
        for line in site_pages.commands(code) if language in site_pages.SCRIPTS else ():
            parse(line)
        if language == "py":
            compile(code, str(page), "exec")


def parse(line):
    """Make sure that a command that is shown but not run here could be run: its options exist."""
    for command in site_pages.piped(shlex.split(line.partition("#")[0])):
        parse_command([part for word in command for part in in_tree(word)])


def parse_command(words):
    """Parse the first program of the toolkit among the words of a command."""
    for i, word in enumerate(words):
        if word in site_pages.PROGRAMS or word == "dvae_cli.train":
            return parse_arguments("dvae-train" if word == "dvae_cli.train" else word, words[i + 1 :])
    return None


def in_tree(word):
    """Return the files of the repository that a pattern stands for; any other word as it is."""
    return (
        sorted(map(str, ROOT.glob(word))) or [word] if word.startswith(("benchmarks/", "reproduce/")) else [word]
    )


def parse_arguments(program, arguments):
    """Parse arguments by click, without running the command; it raises for what it does not know."""
    command = train_command
    if program == "dvae-eval":
        name, *arguments = arguments
        group = importlib.import_module("dvae_cli.main").group
        command = group.get_command(click.Context(group), name)
    # Neither files, standard input nor the environment's variables are there.
    arguments = [__file__ if word == "-" else re.sub(r"\$\w+", "1", word) for word in arguments]
    if not any(word.startswith("--list-") for word in arguments):
        command.make_context(program, arguments)


@pytest.mark.parametrize(
    "line",
    [
        "dvae-eval table --kind table3",
        "dvae-train digits --out x --colour red",
        "dvae-eval logz missing.pt",
        "make demo",
    ],
)
def test_a_wrong_command_would_be_found(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(site_pages.PageError):
        site_pages.execute(line, site_pages.TINY)
    if "missing" not in line and "make" not in line:
        with pytest.raises(click.ClickException):
            parse(line)


# --- the contributor's map ------------------------------------------------------------------------------------


def quoted(text):
    """The words in back quotes: paths of the repository, and names that stand in its files."""
    words = re.findall(r"`([^`\n]+)`", text)
    paths = [word for word in words if "/" in word and re.fullmatch(r"[\w./-]+", word)]
    return paths, [word for word in words if re.fullmatch(r"[A-Za-z_]+", word)]


def strayed(line):
    """The paths of a line that do not exist, and its names that are in none of the files at its paths."""
    paths, names = quoted(line)
    text = "".join((ROOT / path).read_text() for path in paths if (ROOT / path).is_file())
    return [path for path in paths if not (ROOT / path).exists()] + [
        name for name in names if not re.search(rf"\b{name}\b", text)
    ]


def test_the_map_of_contributing_is_true():
    """Every path named there exists, and what is to be changed in a file is in it."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert [path for path in quoted(text)[0] if not (ROOT / path).exists()] == []
    (trips,) = re.findall(r"^## To change X, open Y\n(.*?)^## ", text, re.S | re.M)
    rows = [line for line in trips.splitlines() if line.startswith("| ")][2:]
    assert len(rows) >= 12
    assert {row: found for row in rows if (found := strayed(row))} == {}
    folders = {path.parent for package in ("dvae_core", "dvae_eval") for path in (ROOT / package).glob("*/*.py")}
    assert not [folder for folder in folders if f"`{folder.relative_to(ROOT).as_posix()}/`" not in text]


def test_what_to_read_first_is_short():
    """Fewer than 500 lines of code, and about as many in each file as the table states."""
    (table,) = re.findall(r"^## Read these first\n(.*?)^## ", (ROOT / "CONTRIBUTING.md").read_text(), re.S | re.M)
    rows = re.findall(r"^\| (\d+) \| `(.*?)` \| (\d+) \|", table, re.M)
    assert [int(number) for number, *_ in rows] == list(range(1, len(rows) + 1))
    assert len(rows) > 5
    lengths = {path: lines_of_code(ROOT / path) for _, path, _ in rows}
    assert sum(lengths.values()) < 500
    assert lengths == {path: pytest.approx(int(stated), abs=15) for _, path, stated in rows}


def test_a_wrong_turn_would_be_found():
    assert strayed("| x | `no_such_table` in `dvae_core/config.py`, `dvae_core/no_such_file.py` |") == [
        "dvae_core/no_such_file.py",
        "no_such_table",
    ]


# --- completeness ---------------------------------------------------------------------------------------------


def test_the_reference_of_the_commands_is_complete():
    """Every command with its example, every option with its help."""
    text = "\n".join(hooks().command_reference())
    sections = {part.partition("`")[0]: part for part in f"\n{text}".split("\n## `")[1:]}
    assert set(sections) >= {"dvae-train", "dvae-eval", *(f"dvae-eval {name}" for name in COMMANDS)}
    for name, command in hooks().programs():
        section = sections[name]
        assert "Example:\n\n```text\ndvae-" in section
        for param in command.params:
            if isinstance(param, click.Option) and not param.hidden:
                assert param.help, f"{name} {param.opts[0]} has no help"
                assert re.search(rf"^`.*{re.escape(param.opts[-1])}\b.*`\n:   \S", section, re.M), (
                    name,
                    param.opts,
                )
    assert "See above" not in text


def test_the_reference_of_the_library_is_complete():
    """Every name that a package offers is on its page, settings with each of their fields, and nothing else is."""
    reference = importlib.import_module("library_reference")
    for name in reference.PACKAGES:
        package = importlib.import_module(name)
        page = (DOCS / "reference" / f"{name}.md").read_text()
        made = reference.REFERENCE.sub(lambda found: "\n".join(reference.referred_to(found[1], found[2])), page)
        described = set(re.findall(r"^::: (\S+)$", made, re.M))
        offered = reference.offered(package)
        assert set(offered) == set(package.__all__) - {"__version__"}
        extra = described - {reference.path_of(value) for value in offered.values()}
        assert {reference.path_of(value) for value in offered.values()} <= described
        assert all(path.startswith(("dvae_eval.results.", *reference.RETURNED)) for path in extra)
        assert f"<!-- the names of {name} -->" in page
    table = "\n".join(reference.settings(importlib.import_module("dvae_eval").LogZConfig))
    for row in (
        "| `precision` | `--precision` | `0.0` | Run until the standard error, in nats, is this small",
        "| `n_sweeps` | `--sweeps` | `0` |",
        "| `sandwich` | `--sandwich`, `--no-sandwich` | `False` |",
    ):
        assert row in table
    assert "| 2 to 100000 |" in table
    assert "`auto`, `exact`, `pt-bar`, `ais`, `reverse-ais` |" in table


def test_what_theory_links_to_is_described():
    reference = importlib.import_module("library_reference")
    made = "\n".join(reference.code_behind((DOCS / "theory.md").read_text()))
    assert "::: dvae_core.model.rbm.RBM\n" in made
    assert "::: dvae_eval.log_z.estimate_log_z" not in made  # it is on dvae_eval's own page
    assert "::: dvae_core.model.dvae.DVAE" not in made.replace("DVAE.", "")


def test_every_command_is_met_outside_the_reference():
    text = "".join(page.read_text() for page in PAGES if page.parent.name != "reference")
    missing = {name for name in COMMANDS if f"dvae-eval {name}" not in text}
    # The comparison of gradient estimators is for readers of the code: theory names the function.
    assert missing <= {"gradients"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_pictures_are_there_and_say_what_they_show(page):
    for alt, target in re.findall(r"!\[(.*?)\]\((.*?)\)", page.read_text()):
        assert len(alt) > 20
        assert (page.parent / target).is_file()


def test_the_picture_of_the_smoothing_is_what_the_command_draws(tmp_path):
    """To mend it: dvae-eval figure smoothing --width page -o docs/images/smoothing.svg --force."""
    assert status_of(dvae_eval, "figure", "smoothing", "--width", "page", "-o", tmp_path / "x.svg", "-q") == 0
    made, kept = ((path).read_text() for path in (tmp_path / "x.svg", DOCS / "images" / "smoothing.svg"))

    def numbers(svg):
        return [float(number) for number in re.findall(r"-?\d+\.\d+", svg)]

    # Other versions of matplotlib may round or order differently: the curves must lie where they lay.
    assert sum(numbers(made)) == pytest.approx(sum(numbers(kept)), rel=0.05)


# --- outputs of commands --------------------------------------------------------------------------------------

PAGE = """# A page

```python
import numpy as np
np.savez("rbm.npz", W=np.ones((2, 2)), b_left=np.zeros(2), b_right=np.zeros(2))
print("<made>")
```

```sh
dvae-eval logz rbm.npz
dvae-eval figure smoothing -o smoothing.svg
```

```bash
dvae-eval logz another.npz
```
"""


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    """The module that makes outputs, with a cache of its own."""
    pytest.importorskip("mkdocs", reason="the docs extra is not installed")
    module = importlib.import_module("outputs")
    monkeypatch.setattr(module, "CACHE", tmp_path / "cache")
    return module


def test_outputs_stand_below_what_made_them(outputs, monkeypatch):
    (folder,) = outputs.run_pages({"page.md": PAGE, "words.md": "# No code"}).values()
    assert (folder / "smoothing.svg").is_file()
    made = outputs.with_outputs(PAGE, folder, "../outputs/page")
    parts = re.split(r"^```$", made, flags=re.M)
    assert "&lt;made&gt;" in parts[1]
    assert "log Z = 4.6252" in parts[2]  # 4 + 2 (1 + e)² + (1 + e²)²
    assert "verdict: exact" in parts[2]
    assert "](../outputs/page/smoothing.svg)" in parts[2]
    assert parts[3].strip() == ""  # of what is only shown there is no output
    assert re.sub(r"\n*(<details.*|!\[.*)\n", "", made) == PAGE
    # A second build runs nothing; words may change without a further run, code may not.
    monkeypatch.setattr(outputs, "_run", lambda *_: pytest.fail("was run again"))
    assert outputs.run_pages({"page.md": PAGE.replace("# A page", "# The page")}) == {"page.md": folder}
    with pytest.raises(pytest.fail.Exception, match="again"):
        outputs.run_pages({"page.md": PAGE.replace("np.ones", "np.zeros")})


def test_a_page_whose_code_fails_fails_the_build(outputs, tmp_path):
    error = importlib.import_module("mkdocs.exceptions").PluginError
    with pytest.raises(error, match=r"page\.md: .*(\n.*)*no\.npz"):
        outputs.run_pages({"page.md": "```sh\ndvae-eval logz no.npz\n```\n"})
    assert not list(tmp_path.glob("cache/*"))


def test_a_figure_that_the_gallery_lacks_fails_the_build():
    text = (DOCS / "gallery.md").read_text()
    hooks().check_gallery(text)
    error = importlib.import_module("mkdocs.exceptions").PluginError
    with pytest.raises(error, match="no section for schedule"):
        hooks().check_gallery(text.replace("<!-- the figure schedule -->", ""))
    with pytest.raises(error, match="no section for schedule"):
        hooks().check_gallery(text.replace("dvae-eval figure schedule", "dvae-eval figure logz"))


def test_the_tables_of_the_results_are_what_their_commands_print(tmp_path, monkeypatch):
    """To mend it: paste what the command prints."""
    monkeypatch.chdir(tmp_path)
    Path("reproduce").symlink_to(ROOT / "reproduce")
    text = (DOCS / "results.md").read_text()
    found = [line for _, code in site_pages.blocks(text) for line in site_pages.commands(code)]
    printed = [line for line in found if line.startswith("dvae-eval table")]
    assert len(printed) > 3
    assert [line for line in printed if site_pages.execute(line, {}).text.strip() not in text] == []


# --- the site -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of what the site is made of, to be built and to be broken."""
    folder = tmp_path_factory.mktemp("site")
    for name in ("docs", "dvae_core", "dvae_eval", "reports", "cli"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "mkdocs.yml", folder)
    return folder


def build(folder):
    """Build the site in `folder` as `make docs` does, but for the outputs: every page is run above."""
    pytest.importorskip("mkdocs", reason="the docs extra is not installed")
    roots = os.pathsep.join(str(folder / part) for part in (".", "cli", "reports"))
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": roots, "DVAE_DOCS_OUTPUT": "off"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_site_builds_without_a_warning_and_asks_nothing_of_the_network(copy):
    done = build(copy)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    pages = {
        path.relative_to(copy / "site").as_posix(): path.read_text() for path in (copy / "site").rglob("*.html")
    }
    assert set(pages) >= {
        "index.html",
        "tutorial.html",
        "reference/command-line.html",
        "theory.html",
        "gallery.html",
    }
    for name, page in pages.items():
        sources = re.findall(r'<(?:script|img|iframe)[^>]*\ssrc="([^"]*)"', page)
        sources += re.findall(r'<link[^>]*rel="(?:stylesheet|preconnect|icon)"[^>]*href="([^"]*)"', page)
        assert not [source for source in sources if "//" in source], name
    theory = pages["theory.html"]
    assert theory.count("<math") > 20
    assert "arithmatex" not in theory
    assert "<!-- the " not in "".join(pages.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("index.md", "[nowhere](nowhere.md)"),
        ("theory.md", "[`x`][dvae_core.model.dvae.NoSuchName]"),
        ("theory.md", r"$\nosuchcommand{x}$"),
        ("reference/dvae_eval.md", "::: dvae_eval.no_such_module"),
    ],
)
def test_a_broken_page_would_be_found(copy, page, text):
    path = copy / "docs" / page
    kept = path.read_text()
    try:
        path.write_text(f"{kept}\n\n{text}\n")
        assert build(copy).returncode != 0
    finally:
        path.write_text(kept)
