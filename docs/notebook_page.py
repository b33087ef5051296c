"""Notebooks on the site: executed when it is built, with the output below each cell.

The repository has notebooks without outputs; a page includes one by a comment, `<!-- the notebook rbm.ipynb -->`.
Executed notebooks are cached in `.docs_cache/`, by a digest of their code and of the packages.
"""

from __future__ import annotations

import base64
import hashlib
import html
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "docs" / "notebooks"
CACHE = Path(os.environ.get("DVAE_DOCS_CACHE", ROOT / ".docs_cache"))
SOURCES = ("dvae_core", "dvae_eval", "reports")
MARKER = re.compile(r"<!-- the notebook (\S+)\.ipynb -->")
BLANK = re.compile(r"\n\s*\n")
SECONDS = 300  # that a cell may take


def with_notebooks(markdown: str) -> tuple[str, dict[str, bytes]]:
    """Return a page with the notebooks that it includes, and their pictures by file names beside the page."""
    pictures: dict[str, bytes] = {}

    def shown(found: re.Match[str]) -> str:
        path = NOTEBOOKS / f"{found[1]}.ipynb"
        return notebook_markdown(executed(path), found[1], pictures)

    return MARKER.sub(shown, markdown), pictures


def executed(path: Path) -> Any:
    """Return the notebook at `path` with its outputs, from the cache if it is there."""
    kept = CACHE / f"{path.stem}-{digest(path)}.ipynb"
    if not kept.exists():
        notebook = execute(nbformat.read(path, as_version=4))
        kept.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, kept)
    return nbformat.read(kept, as_version=4)


def digest(notebook: Path) -> str:
    """Return a digest of the notebook and of the packages, on which the outputs depend."""
    found = hashlib.sha256(notebook.read_bytes())
    for path in sorted(path for source in SOURCES for path in (ROOT / source).rglob("*.py")):
        found.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return found.hexdigest()[:24]


def execute(notebook: Any) -> Any:
    """Run a notebook in an empty folder, and return it with outputs; raise CellExecutionError if a cell fails."""
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=SECONDS,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            extra_arguments=["--IPKernelApp.log_level=40"],  # it would warn about its local sockets
        )
        return client.execute()


def notebook_markdown(notebook: Any, name: str, pictures: dict[str, bytes]) -> str:
    """Return an executed notebook as Markdown: text unchanged, code as blocks, and outputs as HTML.

    Pictures are added to `pictures`, by file names that begin with `name`.
    """
    return "\n\n".join(part for cell in notebook.cells for part in _parts(cell, name, pictures))


def _parts(cell: Any, name: str, pictures: dict[str, bytes]) -> Iterator[str]:
    """Yield the parts of a cell."""
    if cell.cell_type == "markdown":
        yield cell.source
    elif cell.cell_type == "code":
        yield f"```python\n{cell.source}\n```"
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                picture = f"{name}-{len(pictures) + 1}.png"
                pictures[picture] = base64.b64decode(output.data["image/png"])
                shown = _image(output, picture, cell.metadata.get("alt", "plot of the cell above"))
            else:
                shown = BLANK.sub("\n", _text(output))  # raw HTML ends at a blank line
            if shown:
                yield f'<div class="notebook-output" tabindex="0">{shown}</div>'


def _image(output: Any, source: str, alt: str) -> str:
    """Return the picture of an output, with the width in its metadata."""
    width = output.metadata.get("image/png", {}).get("width")
    size = f' width="{width}"' if width else ""
    return f'<img alt="{html.escape(alt)}" src="{source}"{size}>'


def _text(output: Any) -> str:
    """Return an output without a picture as HTML, without standard error."""
    if output.output_type == "stream":
        return f"<pre>{html.escape(output.text.rstrip())}</pre>" if output.name == "stdout" else ""
    return str(output.data.get("text/html") or f"<pre>{html.escape(output.data['text/plain'])}</pre>")
