"""Run the code of a page as a reader would type it: in the page's order, in one directory and one namespace.

The tests run every page with very quick settings. The site runs it with longer ones, by
`python docs/run_page.py PAGE.md FOLDER`, and shows the output of the commands.
"""

from __future__ import annotations

import glob
import io
import json
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.S | re.M)
# Languages of blocks that are executed, of commands whose options are checked, and of blocks that are neither.
EXECUTED, SCRIPTS, SHOWN = ("python", "sh"), ("bash", "console"), ("text",)
PROGRAMS = {"dvae-train": "dvae_cli.train", "dvae-eval": "dvae_cli.main"}
WIDTH = 80  # of the terminal that outputs are made for
# Lines of progress and run times, which differ from computer to computer.
PROGRESS = re.compile(r"^(?:\S.*? [\d ]+/\d+ |.* x \d+ samples: about ).*(?:\bs| process(?:es)?)\n", re.M)

# Options that are added to commands, by the command's name; later options win.  For the tests: seconds per page.
TINY = {
    "dvae-train": "--epochs 1 --chains 10 --sweeps 1 --encoder-hidden 8 --continuous 2 --left 4 --right 4 -q",
    "logz": "--sweeps 200 -q",
    "compare-samples": "-q",
    "observables": "--sweeps 200 -q",
    "ll": "--samples 10 --limit 20 -q",
    "gradients": "--samples 100 --reference 100 --pilot 50 --limit 2 -q",
}
# For the site: realistic numbers, which do not depend on the clock.
QUICK = {
    "dvae-train": "--epochs 10",
    "logz": "--sweeps 4000",
    "ll": "--samples 1000 --limit 100",
}
# A page chooses settings other than QUICK for the site by such a comment: `none` (as written) or `tiny`.
CHOICE = re.compile(r"<!-- the site's settings: (none|tiny) -->")
# Data sets that do not ship with the package, which `digits` replaces.
STAND_IN = {"mnist", "mnist-static", "omniglot", "caltech101"}

# Folders of the repository with results that pages show.
KEPT = ("benchmarks", "reproduce")

Settings = Mapping[str, str]


class PageError(Exception):
    """A command or a block of code of a page failed, or cannot be run here."""


@dataclass(frozen=True, slots=True)
class Output:
    """The output of a command or a block of Python.

    Attributes
    ----------
    block : int
        Number of the block on its page, from 0.
    typed, run : str
        The command as on the page, and as it was run; both empty for a block of Python.
    text : str
        Standard output and standard error together, as a terminal shows them.
    status : int
        Exit status.
    """

    block: int
    typed: str
    run: str
    text: str
    status: int


def blocks(text: str) -> list[tuple[str, str]]:
    """Return the language and the text of every fenced block of a page."""
    return BLOCK.findall(text)


def commands(text: str) -> list[str]:
    """Return the command lines of a block, without prompts and comments, continued lines joined."""
    lines = text.replace("\\\n", " ").splitlines()
    return [line.removeprefix("$ ") for line in lines if line.strip() and not line.startswith("#")]


def run_page(text: str, settings: Settings, show: Callable[[Output], None] = lambda output: None) -> None:
    """Run the executed blocks of a page in the working directory; call `show` with each output.

    Raises
    ------
    PageError
        If a command fails.  Exceptions of Python blocks are not caught.
    """
    names: dict[str, Any] = {}
    for i, (language, code) in enumerate(blocks(text)):
        if language == "python":
            printed, _ = captured(partial(exec, compile(code, f"block {i}", "exec"), names))
            show(Output(i, "", "", printed, 0))
        elif language == "sh":
            for line in commands(code):
                show(execute(line, settings, i))


def execute(line: str, settings: Settings, block: int = 0) -> Output:
    """Run a line as a shell does, with pipes and a file to write, and settings added; see `run_one`."""
    words, _, file = line.partition(" > ")
    commands = [expanded(command) for command in piped(shlex.split(words))]
    content, printed, runs = b"", "", []
    for i, command in enumerate(commands):
        is_shown = i == len(commands) - 1 and not file
        run, text, status, content = run_one(command, settings, content, is_shown)
        runs.append(run)
        printed += text
    if file:
        Path(file).write_bytes(content)
    typed, run = (" | ".join(map(shlex.join, of)) for of in (commands, runs))
    return Output(block, line, line if run == typed else run + (f" > {file}" if file else ""), printed, status)


def run_one(words: list[str], settings: Settings, content: bytes, is_shown: bool) -> tuple[Any, ...]:
    """Run a command with `content` on standard input; raise PageError unless its exit status is 0 or 3.

    Returns the command with its settings, its text on the terminal, its exit status, and its standard output
    (empty if that `is_shown` on the terminal).
    """
    program, *arguments = words
    if program not in PROGRAMS:
        raise PageError(f"a block to be executed holds {program!r}; make it a console or bash block")
    arguments = with_settings(program, arguments, settings)
    main = import_module(PROGRAMS[program]).main
    out = None if is_shown else io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    printed, status = captured(lambda: main(arguments), content, out)
    if status not in (0, 3):
        raise PageError(f"{shlex.join(words)}: exit status {status}\n{printed}")
    if program != "dvae-train":
        printed = PROGRESS.sub("", printed)
    return [program, *arguments], printed, status, out.buffer.getvalue() if out else b""  # type: ignore[attr-defined]


def piped(words: list[str]) -> list[list[str]]:
    """Return the commands of a line with pipes."""
    commands: list[list[str]] = [[]]
    for word in words:
        if word in ("|", "||"):
            commands.append([])
        else:
            commands[-1].append(word)
    return commands


def captured(
    call: Callable[[], Any], content: bytes = b"", out: io.TextIOWrapper | None = None
) -> tuple[str, int]:
    """Return the text that a call with this standard input prints, except to `out`, and its exit status."""
    stream, status, stdin = Terminal(io.BytesIO(), encoding="utf-8", write_through=True), 0, sys.stdin
    sys.stdin = io.TextIOWrapper(io.BytesIO(content))
    try:
        with redirect_stdout(out or stream), redirect_stderr(stream):
            call()
    except SystemExit as exit:
        status = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    finally:
        sys.stdin = stdin
    stream.seek(0)
    return stream.read(), status


class Terminal(io.TextIOWrapper):
    """A stream that commands treat as a terminal, so that they wrap their lines."""

    def isatty(self) -> bool:
        """Return True."""
        return True


def expanded(words: list[str]) -> list[str]:
    """Return words with file name patterns replaced by the files, as a shell does."""
    found = []
    for word in words:
        names = sorted(glob.glob(word)) if "*" in word else []
        found += names or [word]
    return found


def with_settings(program: str, arguments: list[str], settings: Settings) -> list[str]:
    """Return a command's arguments with the settings that make it quick."""
    if program == "dvae-train":
        return training(arguments, settings)
    if arguments[0] == "sweep":
        # Arguments after the data set belong to the training; ours go before it.
        start = next(i for i, word in enumerate(arguments) if word in STAND_IN | {"digits"})
        ours = ["--ll", settings.get("ll", ""), "--logz", settings.get("logz", ""), "--workers", "1", "-q"]
        return [*arguments[:start], *ours, *training(arguments[start:], settings)] if settings else arguments
    return arguments + shlex.split(settings.get(arguments[0], ""))


def training(arguments: list[str], settings: Settings) -> list[str]:
    """Return arguments of dvae-train with an available data set, and with settings added."""
    arguments = ["digits" if word in STAND_IN else word for word in arguments]
    if {"--resume", "--end", "--config", "--list-presets", "--list-datasets"} & set(arguments):
        return arguments  # these take their settings from a run, or need none
    if "--preset" in arguments and "digits" not in arguments:
        arguments = ["digits", *arguments]
    return [*arguments, *shlex.split(settings.get("dvae-train", ""))]


def site_settings(text: str) -> Settings:
    """Return the settings with which the site runs a page."""
    chosen = CHOICE.search(text)
    if not chosen:
        return QUICK
    return {} if chosen[1] == "none" else {name: added.replace("-q", "") for name, added in TINY.items()}


def link_results() -> None:
    """Link the repository's results into the working directory."""
    for name in KEPT:
        Path(name).symlink_to(ROOT / name)


def in_this_process(runs: Any, arguments: list[str], log: Any) -> int:
    """Replace `Runs._run`: run a command of a sweep in this process, and return its exit status."""
    module, *rest = arguments
    return captured(lambda: import_module(f"dvae_cli.{module}").main(rest))[1]


def main(page: str, folder: str) -> None:
    """Run a page in a folder, and write its outputs there as outputs.json."""
    text = Path(page).read_text(encoding="utf-8")
    os.chdir(folder)
    # A terminal without colours, on which progress is lines.
    os.environ |= {"COLUMNS": str(WIDTH), "NO_COLOR": "1", "TERM": "dumb"}
    link_results()
    import_module("dvae_cli.commands.sweep.grid").Runs._run = in_this_process
    outputs: list[dict[str, Any]] = []
    run_page(text, site_settings(text), lambda output: outputs.append(asdict(output)))
    Path("outputs.json").write_text(json.dumps(outputs), encoding="utf-8")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Exception:
        traceback.print_exc()
        sys.exit(1)
