"""Make the results page: run every command of its template, and insert its output below it.

    python reproduce/page.py            # docs/results.md from reproduce/results.md
    python reproduce/page.py --check    # exit status 1 if the page is not up to date

A fenced block that opens with ```run holds commands. Output in Markdown becomes part of the page; other output is
shown in a block. Commands write their figures themselves.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE, PAGE = ROOT / "reproduce" / "results.md", ROOT / "docs" / "results.md"
BLOCK = re.compile(r"^```run\n(.*?)^```$", re.S | re.M)
# Commands whose output is Markdown.
MARKDOWN = re.compile(r"--format markdown|(choices|gains|mixing|paired|table)\.py")
NOT_TRUSTWORTHY = 3  # exit status of a result that is not trustworthy; its output says so, too
MODULES = {"dvae-eval": ["-m", "dvae_cli.main"], "python": []}


def made(template: str) -> str:
    """Return the page: the template, each of its commands followed by its output."""
    return BLOCK.sub(lambda block: "\n\n".join(map(shown, commands(block[1]))), template)


def commands(text: str) -> list[str]:
    """Return the commands of a block, one per line; a backslash at its end joins a line to the next."""
    return [line for line in re.split(r"(?<!\\)\n", text) if line]


def shown(command: str) -> str:
    """Return a command and its output as Markdown."""
    printed = output(command).strip("\n")
    if printed and not MARKDOWN.search(command):
        printed = f"```text\n{printed}\n```"
    return f"```console\n$ {command}\n```\n\n{printed}".rstrip("\n")


def output(command: str) -> str:
    """Run a command in the root of the repository and return its output; SystemExit if it fails."""
    program, *arguments = (part for word in shlex.split(command) for part in expanded(word))
    done = subprocess.run(
        [sys.executable, *MODULES[program], *arguments], cwd=ROOT, capture_output=True, encoding="utf-8"
    )
    if done.returncode not in (0, NOT_TRUSTWORTHY):
        raise SystemExit(f"{command}: {done.stderr.strip() or f'exit status {done.returncode}'}")
    return done.stdout


def expanded(word: str) -> list[str]:
    """Return the files that match a pattern, as a shell does; any other word unchanged."""
    return sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(word)) if "*" in word else [word]


def main(arguments: list[str]) -> int:
    """Write the page, or check that it is up to date; return the exit status."""
    page = made(TEMPLATE.read_text(encoding="utf-8"))
    if "--check" in arguments:
        return int(not PAGE.exists() or page != PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
