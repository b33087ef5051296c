"""Outputs of a page's commands, text and pictures, shown below its blocks of code.

Every page is run when the site is built (`run_page.py`), in its own directory and process. Outputs are cached in
`.docs_cache/`, by a digest of the page's code and of the packages.
"""

from __future__ import annotations

import hashlib
import html
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from run_page import BLOCK, EXECUTED, KEPT, ROOT, Output, blocks, site_settings

LOG = logging.getLogger("mkdocs.plugins.outputs")
CACHE = Path(os.environ.get("DVAE_DOCS_CACHE", ROOT / ".docs_cache"))
SOURCES = ("dvae_core", "dvae_eval", "reports", "cli")
# The line in which a command reports a saved file that browsers can show.
SAVED = re.compile(r"^saved: (\S+\.(?:png|svg|html))$", re.M)
LONG = 16  # lines; longer outputs are collapsed at first
HIDDEN = "<!-- no output -->"  # before a block whose output is not shown


def run_pages(pages: dict[str, str]) -> dict[str, Path]:
    """Return the folder of each page's outputs; run pages that are not in the cache, two at a time.

    Parameters
    ----------
    pages : dict
        The Markdown of every page by its address; pages without code to run are omitted.

    Raises
    ------
    PluginError
        If the code of a page fails.
    """
    wanted = {
        name: CACHE / digest(text) for name, text in pages.items() if any(b[0] in EXECUTED for b in blocks(text))
    }
    missing = {folder: name for name, folder in wanted.items() if not (folder / "outputs.json").exists()}
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        list(pool.map(lambda folder: _run(missing[folder], pages[missing[folder]], folder), missing))
    return wanted


def _run(name: str, text: str, folder: Path) -> None:
    """Run a page in a temporary directory, and save its outputs in `folder`."""
    with tempfile.TemporaryDirectory() as work:
        (page := Path(work, "page.md")).write_text(text, encoding="utf-8")
        (place := Path(work, "work")).mkdir()
        roots = [str(ROOT / part) for part in ("", *SOURCES[2:])]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(roots), "OMP_WAIT_POLICY": "PASSIVE"}
        started = time.monotonic()
        script = [sys.executable, str(Path(__file__).with_name("run_page.py")), str(page), str(place)]
        done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PluginError(f"{name}: its code does not run\n{done.stderr.strip()}")
        _keep(place, folder)
        LOG.info("Ran %s in %.0f s", name, time.monotonic() - started)


def _keep(place: Path, folder: Path) -> None:
    """Copy the printed outputs of a page, and the pictures and reports that it saved, into `folder`."""
    outputs = [Output(**output) for output in json.loads((place / "outputs.json").read_text(encoding="utf-8"))]
    making = folder.with_name(f"{folder.name}.{os.getpid()}")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    for path in {path for output in outputs for path in saved(output)}:
        shutil.copy(place / path, making / _flat(path))
    shutil.copy(place / "outputs.json", making)
    making.rename(folder)


def saved(output: Output) -> list[str]:
    """Return the pictures and reports that a command saved, by its output."""
    return SAVED.findall(output.text)


def _flat(path: str) -> str:
    """Return the name of a saved file in the folder of outputs."""
    return path.replace("/", "-")


def digest(text: str) -> str:
    """Return a digest of everything that the outputs of a page depend on: its code, settings, and the packages."""
    code = [block for block in blocks(text) if block[0] in EXECUTED]
    parts: list[Any] = [code, site_settings(text), _sources()]
    parts += [_digest((ROOT / name).rglob("*.json*")) for name in KEPT if f"{name}/" in text]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


@cache
def _sources() -> str:
    """Return a digest of the packages and of the module that runs pages."""
    paths = [path for source in SOURCES for path in (ROOT / source).rglob("*") if "__pycache__" not in path.parts]
    return _digest([*paths, ROOT / "docs" / "run_page.py"])


def _digest(paths: Iterable[Path]) -> str:
    """Return a digest of files."""
    found = hashlib.sha256()
    for path in sorted(paths):
        if path.is_file():
            found.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


# --- on the page ----------------------------------------------------------------------------------------------


def with_outputs(markdown: str, folder: Path, base: str) -> str:
    """Return a page with the outputs below its blocks; `base` is the address of the saved files from there."""
    outputs = [Output(**output) for output in json.loads((folder / "outputs.json").read_text(encoding="utf-8"))]
    made, end = [], 0
    for i, found in enumerate(BLOCK.finditer(markdown)):
        made.append(markdown[end : found.end()])
        end = found.end()
        if not markdown[: found.start()].rstrip().endswith(HIDDEN):
            here = [output for output in outputs if output.block == i]
            made += [part for output in here for part in shown(output, base, is_only=len(here) == 1)]
    return "".join([*made, markdown[end:]])


def shown(output: Output, base: str, is_only: bool) -> Iterator[str]:
    """Yield the Markdown of an output: a table, or text as on a terminal, then pictures and reports."""
    paths = saved(output)
    if "--format markdown" in output.typed and not paths:
        yield f"\n\n{output.text.strip()}\n"
    elif SAVED.sub("", output.text).strip():
        yield f"\n\n{terminal(output, is_only)}\n"
    for path in paths:
        address = f"{base}/{_flat(path)}"
        if path.endswith(".html"):
            yield f"\n\n[Open `{path}`]({address}){{ .md-button }}\n"
        else:
            yield f"\n\n![{html.escape(f'{path}: the output of {output.typed}')}]({address})\n"


def terminal(output: Output, is_only: bool) -> str:
    """Return an output as HTML, collapsed if it is long; one of several names its command."""
    text = output.text.rstrip()
    is_open = "" if text.count("\n") >= LONG else " open"
    # The site's settings do not change an exact value.
    is_as_typed = output.typed == output.run or "(exact)" in text
    if is_as_typed:
        title = "prints" if is_only else f"<code>{html.escape(output.typed)}</code> prints"
    else:
        title = f"prints, when run as <code>{html.escape(output.run)}</code>"
    if output.status:
        title += f", with exit status {output.status}"
    body = html.escape(text).replace("\n", "&#10;")
    return f'<details class="output"{is_open}><summary>{title}</summary><pre><code>{body}</code></pre></details>'
