"""The documentation: it builds without a warning, it is complete, and every block of code in it runs."""

import glob
import importlib.util
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
from dvae_cli.train import main as dvae_train
from tests.test_sweep import in_process  # noqa: F401  (a fixture)

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.S | re.M)
# What is executed, what is only looked at, and what is neither.
EXECUTED, SCRIPTS, SHOWN = ("python", "sh"), ("bash", "console"), ("text",)
PROGRAMS = ("dvae-train", "dvae-eval")

# Settings that make every command of a page a matter of a second; the last word on an option counts.
TINY = {
    "dvae-train": "--epochs 1 --chains 10 --sweeps 1 --encoder-hidden 8 --continuous 2 --left 4 --right 4 -q",
    "logz": "--sweeps 200 -q",
    "compare-samples": "-q",
    "observables": "--sweeps 200 -q",
    "ll": "--samples 10 --limit 20 -q",
    "gradients": "--samples 100 --reference 100 --pilot 50 --limit 2 -q",
}
# A data set that ships with the package stands for those that do not.
STAND_IN = {"mnist", "mnist-static", "omniglot", "caltech101"}


def hooks():
    """Return docs/hooks.py as a module."""
    spec = importlib.util.spec_from_file_location("docs_hooks", DOCS / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(page):
    """Return the language and the text of every fenced block of a page."""
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def commands(text):
    """Return the command lines of a block, without prompts and comments, continued lines joined."""
    lines = text.replace("\\\n", " ").splitlines()
    return [line.removeprefix("$ ") for line in lines if line.strip() and not line.startswith("#")]


# --- the code -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_every_block_of_code_runs(page, tmp_path, monkeypatch, in_process):  # noqa: F811
    """In the order of the page, in one directory and one namespace: as a reader would who types it."""
    monkeypatch.chdir(tmp_path)
    names = {}
    for language, text in blocks(page):
        assert language in (*EXECUTED, *SCRIPTS, *SHOWN), f"{page}: say how a block of {language!r} is checked"
        if language == "python":
            exec(compile(text, str(page), "exec"), names)
        elif language == "sh":
            for line in commands(text):
                execute(line)
        elif language in SCRIPTS:
            for line in commands(text):
                parse(line)


def execute(line):
    """Run a command line of the documentation with tiny settings; it must end well, or with a verdict."""
    program, *arguments = expanded(shlex.split(line))
    assert program in PROGRAMS, f"a block to be executed holds {program!r}; make it a console or bash block"
    main = dvae_train if program == "dvae-train" else dvae_eval
    arguments = tiny(program, arguments)
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert exit.value.code in (0, None, 3), f"{line}: exit status {exit.value.code}"


def expanded(words):
    """Return words with file name patterns replaced by the files, as a shell does."""
    found = []
    for word in words:
        names = sorted(glob.glob(word)) if "*" in word else []
        found += names or [word]
    return found


def tiny(program, arguments):
    """Return a command's arguments with settings that make it quick."""
    if program == "dvae-train":
        return tiny_training(arguments)
    if arguments[0] == "sweep":
        # What follows the data set is training's; ours goes before it.
        start = next(i for i, word in enumerate(arguments) if word in STAND_IN | {"digits"})
        ours = ["--ll", TINY["ll"], "--logz", TINY["logz"], "--workers", "1", "-q"]
        return [*arguments[:start], *ours, *tiny_training(arguments[start:])]
    return arguments + shlex.split(TINY.get(arguments[0], ""))


def tiny_training(arguments):
    """Return arguments of dvae-train with a small data set and a small model."""
    arguments = ["digits" if word in STAND_IN else word for word in arguments]
    if "--resume" in arguments or "--list-presets" in arguments or "--list-datasets" in arguments:
        return arguments
    if "--preset" in arguments and "digits" not in arguments:
        arguments = ["digits", *arguments]
    return [*arguments, *shlex.split(TINY["dvae-train"])]


def parse(line):
    """Make sure that a command that is shown but not run here could be run: its options exist."""
    words = [part for word in shlex.split(line.partition("#")[0]) for part in in_tree(word)]
    for i, word in enumerate(words):
        if word in PROGRAMS or word == "dvae_cli.train":
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
        group = hooks().import_module("dvae_cli.main").group
        command = group.get_command(click.Context(group), name)
    # Neither files nor the environment's variables are there.
    arguments = [re.sub(r"\$\w+", "1", word) for word in arguments]
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
    with pytest.raises((AssertionError, click.ClickException)):
        execute(line)
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
    """Every module that offers something is on its package's page."""
    for package in ("dvae_core", "dvae_eval", "dvae_reports"):
        page = (DOCS / "reference" / f"{package}.md").read_text()
        made = hooks().on_page_markdown(page)
        assert f"<!-- the modules of {package} -->" in page
        assert made.count("\n::: ") == len(hooks().modules(package)) > 5
    assert "dvae_eval.log_z.estimate_log_z" in hooks().modules("dvae_eval")
    assert "dvae_core.model.smoothing.spikes" in hooks().modules("dvae_core")


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
    with pytest.raises(SystemExit):
        dvae_eval(["figure", "smoothing", "--width", "page", "-o", str(tmp_path / "x.svg"), "-q"])
    made, kept = ((path).read_text() for path in (tmp_path / "x.svg", DOCS / "images" / "smoothing.svg"))

    def numbers(svg):
        return [float(number) for number in re.findall(r"-?\d+\.\d+", svg)]

    # Other versions of matplotlib may round or order differently: the curves must lie where they lay.
    assert sum(numbers(made)) == pytest.approx(sum(numbers(kept)), rel=0.05)


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
    """Build the site in `folder` as `make docs` does."""
    pytest.importorskip("mkdocs", reason="the docs extra is not installed")
    roots = os.pathsep.join(str(folder / part) for part in (".", "cli", "reports"))
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": roots}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_site_builds_without_a_warning_and_asks_nothing_of_the_network(copy):
    done = build(copy)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    pages = {
        path.relative_to(copy / "site").as_posix(): path.read_text() for path in (copy / "site").rglob("*.html")
    }
    assert set(pages) >= {"index.html", "tutorial.html", "reference/command-line.html", "theory.html"}
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
