"""The notebook of the documentation: kept without outputs, executed, and shown cell by cell."""

import re
import sys

import pytest

from tests.places import ROOT

DOCS = ROOT / "docs"
nbformat = pytest.importorskip("nbformat", reason="the docs extra is not installed")
pytest.importorskip("nbclient", reason="the docs extra is not installed")
pytest.importorskip("ipykernel", reason="the docs extra is not installed")
sys.path.append(str(DOCS))  # where the site's own modules lie

import notebook_page  # noqa: E402

NOTEBOOK = DOCS / "notebooks" / "rbm.ipynb"
# Of a local connection, by the kernel.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def test_it_is_kept_without_outputs():
    found = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(found)
    code = [cell for cell in found.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    drawing = [cell for cell in code if "plot_" in cell.source.splitlines()[-1]]
    assert all(len(cell.metadata.get("alt", "")) > 20 for cell in drawing)


def test_it_runs_and_its_page_shows_everything(monkeypatch, cache):
    monkeypatch.setattr(notebook_page, "CACHE", cache)
    page, pictures = notebook_page.with_notebooks("before\n\n<!-- the notebook rbm.ipynb -->\n\nafter")
    assert page.startswith("before\n\n# An RBM in a notebook")
    assert page.endswith("after")
    assert "log Z = 13.9671 nats <span" in page  # the exact value
    assert re.search(r">verdict</td>.*>checked</span> every check passed", page)
    assert "sweeps: no such setting; did you mean n_sweeps?" in page
    assert "<th>ess_bulk</th>" in page
    assert len(pictures) == 5
    assert all(content.startswith(b"\x89PNG") for content in pictures.values())
    assert re.findall(r'src="([^"]+)"', page) == list(pictures)  # each once
    assert "Traceback" not in page
    # The error of the estimate is one that its own distance from the exact value allows: |z| < 5.
    after = page.partition("# in standard errors\n```")[2]
    assert abs(float(re.findall(r"<pre>(.*?)</pre>", after)[1])) < 5


def test_a_second_build_takes_it_from_the_cache(monkeypatch, cache):
    monkeypatch.setattr(notebook_page, "CACHE", cache)
    monkeypatch.setattr(notebook_page, "execute", lambda notebook: pytest.fail("executed again"))
    notebook_page.with_notebooks("<!-- the notebook rbm.ipynb -->")
    assert notebook_page.with_notebooks("no notebook") == ("no notebook", {})


def made(*cells):
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])


def test_outputs_are_escaped_and_errors_end_the_build():
    from nbclient.exceptions import CellExecutionError

    text = "import sys\nprint('<b>\\n\\n&')\n_ = sys.stderr.write('hidden')"
    shown = notebook_page.notebook_markdown(notebook_page.execute(made(text)), "x", {})
    assert shown.endswith('<div class="notebook-output" tabindex="0"><pre>&lt;b&gt;\n&amp;</pre></div>')
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        notebook_page.execute(made("1 / 0"))


def test_a_plot_is_shown_once_with_and_without_pyplot():
    start = "import matplotlib.pyplot as plt, numpy as np\nfrom dvae_reports import plot_samples"
    alone = "plot_samples(np.zeros((2, 3, 3)))"
    in_axes = "fig, ax = plt.subplots()\nplot_samples(np.zeros((2, 3, 3)), ax=ax)"
    found = notebook_page.execute(made(alone.replace("plot", f"{start}\nplot", 1), alone, in_axes))
    shown = [sum("image/png" in output.get("data", {}) for output in cell.outputs) for cell in found.cells]
    assert shown == [1, 1, 1]
