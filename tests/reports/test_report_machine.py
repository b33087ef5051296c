"""The page of a machine of one's own: its numbers, its verdict, what to do next, and what is refused."""

import json
import re
from unittest import mock

import numpy as np
import pytest

from dvae_cli.main import main as dvae_eval
from dvae_core.errors import ResultError
from dvae_core.text import count, estimate, fixed
from dvae_eval.results import load_result
from dvae_eval.states.sampled import load_states
from dvae_reports import MachineRecord, render_machine_report
from tests.commands import status_of
from tests.oracles import bipartite, enumerate_states, log_weights
from tests.reports.test_report import Page
from tests.reports.test_report_run import check, write_run

RNG = np.random.default_rng(11)
W, B, C = RNG.normal(size=(16, 3)), RNG.normal(size=16), RNG.normal(size=3)
EVIL = '"><script>alert(1)</script>'


def call(*args):
    """Run dvae-eval; return its exit status."""
    words = [str(arg) for arg in args]
    with mock.patch("sys.argv", ["dvae-eval", *words]):
        return status_of(dvae_eval, *words)


def measured(folder):
    """An RBM whose visible units are pixels of a 4 x 4 picture, as spins; return the results on it."""
    np.savez(folder / "rbm.npz", W=W, b_left=B, b_right=C, epoch=3)
    how = (folder / "rbm.npz", "--units", "pm1", "-q", "-o")
    assert call("logz", *how, folder / "logz.json") == 0
    assert call("observables", *how, folder / "observables.json", "--betas", "0.5,1,2") == 0
    assert call("samples", *how, folder / "samples.npz", "--n", "200", "--best") == 0
    return [folder / name for name in ("logz.json", "observables.json", "samples.npz")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("machine")
    measured(folder)
    return folder


@pytest.fixture(scope="module")
def html(folder):
    return render_machine_report([folder / name for name in ("logz.json", "observables.json", "samples.npz")])


def page_of(*paths):
    """The page's words; figures are drawn, but not written out, which takes longest."""
    with mock.patch("dvae_reports.report.pictures.figure_svg", return_value="<svg></svg>"):
        return Page(render_machine_report(paths))


def edited(path, to, **changes):
    """A result file with other values, a part of a dict by its name with two underscores."""
    data = json.loads(path.read_text())
    for name, value in changes.items():
        part, _, key = name.rpartition("__")
        (data[part] if part else data)[key] = value
    to.write_text(json.dumps(data))
    return to


def energies():
    """log p̃ of every state of the spins, by sums over all states that share no code with the page."""
    return log_weights(*bipartite(W, B, C), enumerate_states(19, (-1, 1)))


def test_the_page_has_the_exact_numbers(html):
    text, log_p = Page(html).text, energies()
    log_z = np.logaddexp.reduce(log_p)
    weight = np.exp(log_p - log_z)
    energy = -(weight @ log_p)
    assert f"log Z {fixed(log_z, 4)}" in text
    assert f"Mean energy {fixed(energy, 4)}" in text
    entropy, heat = log_z + energy, weight @ log_p**2 - energy**2
    assert f"entropy S{estimate(entropy, 0)}" in text
    assert f"specific heat C{estimate(heat, 0)}" in text
    hot = np.logaddexp.reduce(2 * log_p)
    assert fixed(hot, 4) in text  # along beta
    assert fixed(hot + 1, 4) not in text
    assert f"log p = {np.log(weight.max()):.4f}" in text


def test_the_page_says_how_the_machine_was_read(folder, html):
    text = Page(html).text
    model = load_result(folder / "logz.json").model
    for words in ("-1 and +1", "NumPy npz", "16 + 3 units", model["sha256"], model["prior_sha256"], "rbm.npz"):
        assert words in text
    first = text[: text.index("What to do next")]
    assert "Exact" in first
    assert "samples: exact; independent states: use them as they are." in first


def test_figures_pictures_and_words_for_them(html):
    page = Page(html)
    drawn = [attrs for attrs in page.all("div") if attrs.get("role") == "img"]
    # Four observables along beta, the means of units by each result, and the energies of the samples.
    assert len(drawn) == len(page.all("svg")) == 7
    assert "Energy against inverse temperature." in page.text  # exact numbers have no bands
    assert all(attrs["aria-label"] for attrs in drawn)
    (picture,) = page.all("img")
    assert picture["src"].startswith("data:image/png")
    assert "36 states, with their units as the pixels of a square" in picture["alt"]
    assert not page.all("script")
    assert 'class="scroll"' in html
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {attrs["href"][1:] for attrs in page.all("a")} <= set(ids)
    references = [attrs.get("src") or attrs.get("href") for _, attrs in page.tags if {"src", "href"} & set(attrs)]
    assert all(reference.startswith(("#", "data:")) for reference in references)


def test_what_was_not_measured_is_said_with_its_command(folder):
    text = page_of(folder / "logz.json").text
    for command in ("observables", "samples"):
        assert f"dvae-eval {command} {folder / 'rbm.npz'} --units pm1 -o {command}" in text
    text = page_of(folder / "samples.npz").text
    assert "Not fully measured" in text
    assert f"dvae-eval logz {folder / 'rbm.npz'} --units pm1 -o logz.json" in text


@pytest.fixture(scope="module")
def estimated(tmp_path_factory):
    """Results of parallel tempering with every panel, a good one and a bad one."""
    folder = tmp_path_factory.mktemp("estimated")
    write_run(folder / "good")
    write_run(folder / "bad", bad=True)
    return folder


def test_an_estimate_has_its_panels_certificate_and_reference(estimated, tmp_path):
    diagnostics = json.loads((estimated / "good" / "logz.json").read_text())["diagnostics"] | {
        "lower_bound": 44.123456,
        "n_basins": 3,
        "reference": "modes",
        "uniform_run": {"log_z": 43.21, "std_err": 0.25, "n_sweeps": 6432, "failed_checks": ["round trips"]},
        "path": {"chosen": "trajectory", "barrier_beta": 9.5, "barrier_trajectory": 2.5},
        "from_hot_end": [1.0, 0.6, 0.0],
        "energy_histograms": {"edges": [0.0, 1.0, 2.0], "counts": [[3, 1], [1, 3]]},
        "overlap_matrix": [[0.6, 0.4], [0.4, 0.6]],
    }
    path = edited(
        estimated / "good" / "logz.json",
        tmp_path / "logz.json",
        diagnostics=diagnostics,
        model__assumed=["units 0 and 1; --units pm1 for spins"],
        model__left_aside=["epoch"],
        model__clamped={"file": "held.txt", "sha256": "ab", "units": 2},
    )
    page = page_of(path)
    text, result = page.text, load_result(path)
    assert estimate(result.log_z, result.std_err) in text
    assert "44.1234" in text  # rounded down
    assert "strict lower bound" in text
    first_run = f"{estimate(43.21, 0.25)}nats, after {count(6432)} sweeps; failed checks: round trips"
    assert "reference distributionmodes" in text
    assert re.sub(r"\s+", " ", first_run) in text
    assert "pathalong the training" in text
    names = [attrs["aria-label"].split()[0] for attrs in page.all("div") if attrs.get("role") == "img"]
    assert names == ["Exchange", "Share", "Histograms", "Matrix", "The", "Histogram"]
    assert "ignoredepoch" in text
    assert "file held.txt" in text
    assert "Confirm the assumption: units 0 and 1; --units pm1 for spins." in text


def test_an_untrusted_result_says_so_first_and_what_to_do(estimated):
    text = page_of(estimated / "bad" / "logz.json").text
    first = text[: text.index("log Z of") if "log Z of" in text else text.index("Strict bound")]
    assert "May be wrong" in first
    assert "log Z: round trips in the laziest ladder" in first
    steps = text[text.index("What to do next How") if "What to do next How" in text else 0 :]
    assert "Give --sweeps a larger number." in steps
    assert "Add rungs with --rungs." in steps
    assert "May be wrong" not in page_of(estimated / "good" / "logz.json").text


def test_doubtful_samples_make_a_doubtful_page(folder, tmp_path):
    arrays = dict(np.load(folder / "samples.npz"))
    meta = json.loads(arrays["meta"].tobytes())
    meta["diagnostics"]["checks"] = [check("R-hat of the samples", 2.0, 1.1, False, "draw for longer")]
    meta["method"] = "pt-bar"
    arrays["labels"] = np.array([EVIL, *(f"u{i}" for i in range(18))])
    arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    np.savez(tmp_path / "s.npz", **arrays)
    assert load_states(tmp_path / "s.npz").verdict == "doubtful"
    page = page_of(folder / "logz.json", tmp_path / "s.npz")
    assert "May be wrong" in page.text[: page.text.index("Strict bound")]
    assert "samples: R-hat of the samples" in page.text
    assert "Draw for longer." in page.text
    assert EVIL in page.text
    assert not page.all("script")


def test_hostile_names_are_escaped(folder, tmp_path):
    path = edited(
        folder / "logz.json",
        tmp_path / "l.json",
        model__file=f"/tmp/{EVIL}",
        model__format=EVIL,
        model__left_aside=[EVIL],
        model__assumed=[EVIL],
        model__other={EVIL: EVIL},
        command=["dvae-eval", "logz", EVIL],
    )
    page = page_of(path)
    assert page.text.count("alert(1)") >= 6
    assert not page.all("script")


def test_samples_are_read_as_they_were_written(folder):
    found = load_states(folder / "samples.npz")
    assert found.states.shape == (200, 19)
    assert set(np.unique(found.states)) == {-1, 1}
    s = found.states.astype(float)
    log_p = np.einsum("ni,ij,nj->n", s[:, :16], W, s[:, 16:]) + s[:, :16] @ B + s[:, 16:] @ C
    assert np.allclose(found.log_p + found.log_z, log_p)
    assert found.verdict == "exact"
    assert found.best.is_exact


def test_old_results_make_a_page(folder, tmp_path):
    data = json.loads((folder / "logz.json").read_text())
    data["model"] = {"sha256": "ab"}
    data["diagnostics"] = {}
    data["command"] = []
    for name in ("verdict", "warnings"):
        del data[name]
    (tmp_path / "old.json").write_text(json.dumps(data))
    text = page_of(tmp_path / "old.json").text
    assert "a machine from Python" in text
    assert "dvae-eval samples FILE" in text


def test_what_is_refused(folder, estimated, tmp_path, capsys):
    np.savez(tmp_path / "other.npz", J=np.triu(np.ones((3, 3)), 1), b=np.zeros(3))
    assert call("observables", tmp_path / "other.npz", "-q", "-o", tmp_path / "o.json") == 0
    capsys.readouterr()
    logz = folder / "logz.json"
    for args, message in (
        ((logz, tmp_path / "o.json"), "another machine"),
        ((logz, logz), "give only one"),
        ((folder / "rbm.npz",), "cannot be read as states"),
        ((estimated / "good" / "samples.npz",), "no states of a machine"),
        ((estimated / "good" / "ll.json",), "give the run directory"),
        ((logz, estimated / "good"), "cannot be combined with runs or --data"),
        ((logz, "--data", "digits"), "cannot be combined with runs or --data"),
    ):
        assert call("report", *args, "-q", "-o", tmp_path / "page.html") == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
        assert not (tmp_path / "page.html").exists()
    with pytest.raises(ResultError):
        MachineRecord.load([tmp_path / "none.json"])


def test_the_command_writes_the_page_and_keeps_one_that_shows_more(folder, html, tmp_path, capsys):
    for name in ("logz.json", "observables.json", "samples.npz"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    files = [tmp_path / name for name in ("logz.json", "observables.json", "samples.npz")]
    assert call("report", *files) == 0
    assert (tmp_path / "logz.html").read_text() == html
    assert call("report", files[0]) == 0
    assert (tmp_path / "logz.html").read_text() == html
    assert "logz-2.html" in capsys.readouterr().err
