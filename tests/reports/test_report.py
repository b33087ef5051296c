"""The report: what it says, in which order, and that it stands alone."""

import dataclasses
import itertools
import json
import re
import tempfile
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from dvae_core.config import RunConfig, option_name
from dvae_core.errors import ResultError
from dvae_core.text import decimals, error_text, estimate, fixed, signed
from dvae_eval.results import load_result
from dvae_reports import RunRecord, render_report
from dvae_reports.figures.style import PALETTE
from dvae_reports.report.verdict import verdict_of
from dvae_reports.results.paired import difference, differences_from_first, mean_difference, paired_std_errs
from tests.reports.test_report_run import EXACT, edit, write_run

VOID = {"meta", "link", "img", "br", "path", "use"}


class Page(HTMLParser):
    """Tags in order, text without style sheets, and whether every tag is closed by its own end."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.texts, self.open = [], [], []
        self.feed(html)
        self.text = re.sub(r"\s+", " ", "".join(self.texts))
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open and "svg" not in self.open:
            self.texts.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "good")
    write_run(folder / "bad", bad=True, seed=1)
    return folder


@pytest.fixture(scope="module")
def good(folder):
    return render_report([RunRecord.load(folder / "good")])


@pytest.fixture(scope="module")
def many(folder):
    return render_report([RunRecord.load(folder / name) for name in ("good", "bad")])


@pytest.fixture(params=["good", "many"])
def html(request):
    return request.getfixturevalue(request.param)


def html_of(*runs):
    """Return a report for tests of its words: figures are drawn, but not written out, which takes longest."""
    with mock.patch("dvae_reports.report.pictures.figure_svg", return_value="<svg></svg>"):
        return render_report([RunRecord.load(run) for run in runs])


def page_of(*runs):
    return Page(html_of(*runs))


def test_same_records_same_bytes(folder, good):
    assert render_report([RunRecord.load(folder / "good")]) == good


def test_page_asks_the_network_for_nothing(html):
    assert "http://" not in html.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in html
    page = Page(html)
    references = [attrs.get("src") or attrs.get("href") or attrs["xlink:href"] for attrs in linking(page)]
    assert references
    assert all(reference.startswith(("#", "data:")) for reference in references)
    assert "url(" not in html.replace("url(#", "")
    assert not page.all("script")
    assert "default-src 'none'" in html


def linking(page):
    return [attrs for _, attrs in page.tags if {"src", "href", "xlink:href"} & set(attrs)]


def test_every_picture_is_told_in_words(html):
    page = Page(html)
    runs = html.count('aria-label="Histogram of 32 independent estimates')
    drawn = [attrs for attrs in page.all("div") if attrs.get("role") == "img"]
    # Eight of every run, and of several runs two more that show them together.
    assert len(drawn) == len(page.all("svg")) == 8 * runs + 2 * (runs > 1)
    assert all(attrs["aria-label"] for attrs in drawn)
    assert len(page.all("img")) == 6 * runs
    assert all(attrs["alt"] for attrs in page.all("img"))


def test_structure_is_accessible(html):
    page = Page(html)
    assert page.all("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = [attrs["href"] for attrs in page.all("a")]
    assert {target[1:] for target in targets} <= set(ids)


def test_first_lines_say_what_was_measured_and_that_it_can_be_trusted(folder, good):
    text = Page(good).text
    log_z, likelihood = (load_result(folder / "good" / name) for name in ("logz.json", "ll.json"))
    first = text[: text.index("What the numbers mean")]
    assert "Checked" in first
    assert "Next: You can report these numbers with the errors given here." in first
    assert "log Z: checked; it agrees with the exact value: use the exact value." in first
    assert "log-likelihood: checked; a lower bound, provided that log Z misses no mode: use it" in first
    assert "5 checks passed, none failed" in first
    assert estimate(log_z.log_z, log_z.std_err) in first
    assert f"Exact value {fixed(EXACT, decimals(log_z.std_err))}" in first
    assert f"≥ {fixed(likelihood.log_likelihood, 3)}" in first
    assert f"± {fixed(likelihood.std_err_images, 3)} from the choice of images" in first
    assert f"± {error_text(log_z.std_err)} from log Z" in first


def test_order_of_the_sections(good):
    headings = re.findall(r"<h2[^>]*>([^<]*)", good)
    assert headings == [
        "What the numbers mean",
        "Samples",
        "Reconstructions",
        "Training",
        "log Z",
        "Log-likelihood",
        "Settings",
        "Reproduce",
    ]


def test_untrustworthy_result_is_said_before_its_number(folder):
    text = page_of(folder / "bad").text
    first = text[: text.index("log Z of the prior")]
    assert "May be wrong" in first
    assert "Next: Do not report these numbers." in first
    assert "round trips in the laziest ladder: 0 (limit 10); give --sweeps a larger number" in first
    assert "Checked" not in text
    assert "The log-likelihood was computed with log Z = 44.3621" in first
    assert "nats higher" in first


def test_checks_stand_with_value_limit_outcome_and_remedy(folder):
    html = html_of(folder / "bad")
    row = html[html.index('<th scope="row">smallest overlap of neighbours') :].split("</tr>")[0]
    cells = re.sub(r"(<[^>]*>)+", "|", row).strip("|").split("|")
    assert cells == ["smallest overlap of neighbours", "0.03", "≥ 0.05", "✗ failed", "add rungs with --rungs"]


def test_a_failed_check_outweighs_a_friendly_verdict(folder, tmp_path):
    run = write_run(tmp_path / "run", bad=True)
    edit(run / "logz.json", trustworthy=True, reasons=[])
    assert verdict_of(RunRecord.load(run)).level == "bad"


def test_what_was_not_measured_is_said_with_its_command(tmp_path):
    run = write_run(tmp_path / "run with blank")
    for name in ("logz.json", "ll.json", "samples.npz", "metrics.jsonl"):
        (run / name).unlink()
    page = page_of(run)
    first = page.text[: page.text.index("What the numbers mean")]
    assert "Not fully measured" in first
    assert "Next: Run the commands below" in first
    for command in ("logz", "ll", "samples"):
        assert f"dvae-eval {command} '{run}/model.pt'" in page.text
    assert "metrics.jsonl is missing or empty" in page.text
    assert page.all("img") == page.all("svg") == []


def test_numbers_that_a_figure_lacks_are_named(tmp_path):
    """The alternative text, which also needs them, was written first and ended in a KeyError."""
    run = write_run(tmp_path / "run")
    result = json.loads((run / "logz.json").read_text())
    del result["diagnostics"]["betas"]
    (run / "logz.json").write_text(json.dumps(result))
    with pytest.raises(ResultError, match="no usable 'betas'"):
        render_report(run)


def test_without_a_likelihood_the_bound_is_that_of_the_weights_in_the_model(tmp_path):
    run = write_run(tmp_path / "run")
    (run / "ll.json").unlink()
    path = run / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[2]["valid"]["elbo"] = -7.125  # better than all later ones, as in a warm-up of the KL terms
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "−7.12 nats per image, on the validation set after epoch 3, whose weights" in page_of(run).text


def test_exact_log_z_has_no_error(tmp_path):
    run = write_run(tmp_path / "run")
    exact = dict(method="exact", std_err=0.0, log_z=44.3621301, ci95=[44.3621301] * 2, repeats=[])
    edit(run / "logz.json", diagnostics={"checks": [], "route": "elimination"}, **exact)
    edit(run / "ll.json", std_err_log_z=0.0)
    text = page_of(run).text
    assert "44.3621 nats, computed exactly by elimination: no error." in text
    assert "No error from log Z, which is exact" in text
    assert "Exactly by elimination: log Z = 44.3621 nats." in text
    assert "1 check passed, none failed" in text
    assert "Checks of log Z" not in text


def test_the_strict_bound_is_on_the_page_rounded_down(tmp_path):
    run = write_run(tmp_path / "run")
    assert "Strict bound" not in page_of(run).text
    found = json.loads((run / "logz.json").read_text())["diagnostics"]
    edit(run / "logz.json", diagnostics={**found, "lower_bound": 44.12349, "n_basins": 7})
    assert "Strict bound: log Z ≥ 44.1234, summed over 7 basins" in page_of(run).text


def test_numbers_that_were_not_finite_are_said(tmp_path):
    run = write_run(tmp_path / "run")
    lost = dict(trustworthy=False, reasons=["no overlap"])
    edit(run / "logz.json", log_z=None, std_err=None, ci95=[None, None], **lost)
    page = page_of(run)
    assert "May be wrong" in page.text
    assert "log Z = not finite nats" in page.text


def test_arrays_without_a_finite_number_have_no_figure(tmp_path):
    run = write_run(tmp_path / "run")
    diagnostics = json.loads((run / "logz.json").read_text())["diagnostics"]
    edit(run / "logz.json", repeats=[None] * 32, diagnostics=diagnostics | {"exchange_rates": [None] * 11})
    edit(run / "ll.json", per_image={"log_likelihood": [None] * 3, "ess": [None] * 3})
    labels = [attrs["aria-label"] for attrs in page_of(run).all("div") if attrs.get("role") == "img"]
    assert [label.split()[0] for label in labels] == ["Line", "Line", "The", "The"]


def test_the_page_has_the_gap_on_simulated_images(tmp_path):
    run = write_run(tmp_path / "run")
    assert "simulated" not in page_of(run).text
    diagnostics = json.loads((run / "ll.json").read_text())["diagnostics"]
    found = {"n_images": 50, "states": "exact", "gap": 0.75, "std_err": 0.18, "bound": 4.8, "bound_std_err": 1.4}
    for simulated, words in (
        (found, "the gap is 0.75 ± 0.18 nats, at most 4.8 ± 1.4."),
        ({**found, "gap": None, "std_err": None, "bound": None}, "the gap is infinite."),
        ({"not_done": "--simulated 0"}, "not measured on simulated images (--simulated 0)"),
    ):
        edit(run / "ll.json", diagnostics=diagnostics | {"simulated": simulated})
        assert words in " ".join(page_of(run).text.split())


def test_hostile_text_is_escaped(tmp_path):
    evil = "<script>alert(1)</script>\"'&"
    run = write_run(tmp_path / "<b>run", dataset=evil)
    edit(run / "logz.json", command=["dvae-eval", evil], trustworthy=False, reasons=[evil])
    page = page_of(run)
    assert not page.all("script")
    assert not page.all("b")
    assert page.text.count("<script>alert(1)</script>") >= 3


def test_provenance_repeats_the_run(folder, good):
    text = Page(good).text
    record = RunRecord.load(folder / "good")
    assert f"dvae-train digits --out {folder}/good --epochs 60" in text
    assert f"dvae-eval logz {folder}/good/model.pt --seed 7" in text
    assert record.model_sha256 in text
    assert "d1" * 32 in text
    assert "torch2.5.0" in text.replace(" ", "")
    for name in ("--left", "--warmup-epochs"):
        assert name in text


def test_versions_that_differ_between_parts_are_told_apart(tmp_path):
    run = write_run(tmp_path / "run")
    edit(run / "ll.json", versions={"torch": "2.6.0"})
    assert "2.5.0 (training), 2.5.0 (log Z), 2.6.0 (log-likelihood)" in page_of(run).text


def test_notes_are_shown(tmp_path):
    run = write_run(tmp_path / "run")
    (run / "model.pt").unlink()
    metrics = run / "metrics.jsonl"
    metrics.write_text(metrics.read_text()[:-30])
    text = page_of(run).text
    assert "model.pt is missing" in text
    assert "half-written" in text
    assert "59 of 60 epochs" in text


def test_several_runs_stand_side_by_side(many):
    page = Page(many)
    text = page.text
    assert (
        text.index("2 runs: 1 checked, 1 may be wrong.")
        < text.index("Comparison of the runs")
        < text.index("What the numbers mean")
    )
    headings = re.findall(r"<h2[^>]*>([^<]*)", many)
    assert headings == ["Comparison of the runs", "What the numbers mean", "good", "bad"]
    assert (
        text.index("Comparison of the runs")
        < text.index("Differences from good")
        < text.index("Settings that differ")
    )
    table = many[many.index("Settings that differ</caption>") :].split("</table>")[0]
    assert re.findall(r'<th scope="row">([^<]*)', table) == ["seed"]


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path):
    runs = [write_run(tmp_path / name / "run", seed=seed) for seed, name in enumerate("ab")]
    text = page_of(*runs).text
    assert all(name in text for name in ("a/run", "b/run"))
    assert str(tmp_path) not in text[: text.index("Reproduce")]


def test_a_run_in_the_current_directory_has_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(write_run(tmp_path / "digits-small"))
    assert page_of(type(tmp_path)()).text.lstrip().startswith("digits-small")


def test_no_run_is_an_error():
    with pytest.raises(ValueError, match="no run"):
        render_report([])


def test_settings_of_every_field_are_shown(good):
    config = RunConfig("digits").to_dict()
    for name in [*config["model"], *config["train"]]:
        assert f"<dt>{option_name(name)}</dt>" in good


def test_both_themes_define_every_colour_of_the_figures(good):
    light, dark = re.search(r"<style>(.*?)</style>", good, re.S).group(1).split("prefers-color-scheme: dark")
    for name in PALETTE:
        assert f"--{name}:" in light
        assert f"--{name}:" in dark


@pytest.mark.parametrize("theme", [0, 1])
@pytest.mark.parametrize("ink", ["ink", "muted", "link", "good", "bad", "open"])
def test_text_has_contrast(good, ink, theme):
    part = re.search(r"<style>(.*?)</style>", good, re.S).group(1).split("prefers-color-scheme: dark")[theme]
    colors = dict(re.findall(r"--([\w-]+): (#\w{6})", part.split("}")[0]))
    papers = {"ink": ["page", "card", "tint", "bad-tint"], "muted": ["page", "card", "bad-tint"]}
    for paper in papers.get(ink, ["page", f"{ink}-tint" if ink != "link" else "card"]):
        assert contrast(colors[ink], colors[paper]) >= 4.5


def contrast(one, two):
    def luminance(color):
        channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    high, low = sorted((luminance(one), luminance(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


# --- several runs ---------------------------------------------------------------------------------------------


def likelihood_of(values, *, prior="p", std_err_log_z=0.0, index=None, split="test"):
    """Return a result with these log-likelihoods of images."""
    values = np.asarray(values, dtype=float)
    result = load_result_of_a_run()
    return dataclasses.replace(
        result,
        log_likelihood=float(values.mean()),
        elbo=float(values.mean()) - 1,
        std_err_log_z=std_err_log_z,
        per_image={"log_likelihood": values.tolist(), "index": index or list(range(len(values)))},
        model={**result.model, "prior_sha256": prior},
        settings={"split": split},
        log_z={"p": 1.0}.get(prior, 2.0),
    )


@cache
def load_result_of_a_run():
    with tempfile.TemporaryDirectory() as folder:
        return load_result(write_run(Path(folder) / "run") / "ll.json")


def test_differences_are_paired_and_their_errors_are_true():
    """Two models on the same hard and easy images, many times: the error must be the spread of the differences.

    The spread of 400 differences is known to 3.5%: with fresh seeds [0.85, 1.15] would fail once in 30 000 times.
    The unpaired error, the broken variant, is three times too large and must not pass.
    """
    rng = np.random.default_rng(0)
    found, errors, unpaired = [], [], []
    for _ in range(400):
        hard = rng.normal(-90, 3, 50)
        one, other = (likelihood_of(hard + rng.normal(0, 0.7, 50)) for _ in range(2))
        gap = difference(one, other)
        found.append(gap.log_likelihood)
        errors.append(gap.std_err)
        spread = [np.std(r.per_image["log_likelihood"], ddof=1) / np.sqrt(50) for r in (one, other)]
        unpaired.append(np.hypot(*spread))
    assert 0.85 < np.std(found) / np.mean(errors) < 1.15
    assert not 0.85 < np.std(found) / np.mean(unpaired) < 1.15


def test_own_errors_leave_out_what_the_choice_of_images_does_to_all():
    """Four models on the same images, many times: their own errors are the spread of what sets them apart.

    What they have of their own has a standard deviation of 0.7, 2 and 1; 300 means tell a spread to 4%, and one of
    three would leave [0.82, 1.18] in 100 000 fresh runs.  Whole errors, the broken variant, are twice as large.
    """
    rng = np.random.default_rng(1)
    own = np.array([0.7, 0.7, 2.0, 1.0])
    means, errors = [], []
    for _ in range(300):
        values = rng.normal(-90, 6, 50) + own[:, None] * rng.normal(size=(4, 50))
        found = paired_std_errs([likelihood_of(row) for row in values])
        means.append(values.mean(1) - values.mean())
        errors.append(found)
        pair = [likelihood_of(row) for row in values[:2]]
        assert np.hypot(*paired_std_errs(pair)) == pytest.approx(difference(*pair).std_err)
    # Of independent parts s_i, deviations from the mean of four have the variance s_i² / 2 + Σ s² / 16.
    expected = np.sqrt((own**2 / 2 + (own**2).sum() / 16) / 50)
    assert np.std(means, axis=0) == pytest.approx(expected, rel=0.18)
    assert np.mean(errors, axis=0) == pytest.approx(expected * np.sqrt(4 / 3), rel=0.05)
    assert np.mean(errors, axis=0).max() < 0.5 * 6 / np.sqrt(50)
    assert paired_std_errs([likelihood_of(values[0])]) is None


def test_the_error_of_log_z_is_counted_once_for_every_prior():
    values = np.random.default_rng(0).normal(-90, 3, 20)
    same = difference(likelihood_of(values, std_err_log_z=0.3), likelihood_of(values - 1, std_err_log_z=0.3))
    assert (same.log_likelihood, same.std_err) == (pytest.approx(1), pytest.approx(0))
    other = difference(
        likelihood_of(values, std_err_log_z=0.3), likelihood_of(values, prior="q", std_err_log_z=0.4)
    )
    assert other.std_err_log_z == pytest.approx(0.5)


def test_means_over_runs_are_compared_with_all_their_errors():
    """The mean of two runs less that of two others, by hand: images paired, log Z and seeds of each side."""
    rng = np.random.default_rng(3)
    hard = rng.normal(-90, 3, 30)
    values = [hard + shift + rng.normal(0, 0.5, 30) for shift in (0, 0.4, -3, -2.2)]
    priors, log_z_errors = "abcd", (0.3, 0.4, 0.1, 0.2)
    runs = [
        dataclasses.replace(likelihood_of(v, prior=p, std_err_log_z=e), log_z=float(i))
        for i, (v, p, e) in enumerate(zip(values, priors, log_z_errors, strict=True))
    ]
    gap = mean_difference(runs[:2], runs[2:])
    means = [run.log_likelihood for run in runs]
    assert gap.log_likelihood == pytest.approx((means[0] + means[1] - means[2] - means[3]) / 2, abs=1e-12)
    per_image = (values[0] + values[1] - values[2] - values[3]) / 2
    assert gap.std_err_images == pytest.approx(np.std(per_image, ddof=1) / np.sqrt(30))
    assert gap.std_err_log_z == pytest.approx(np.linalg.norm(log_z_errors) / 2)
    assert gap.std_err_runs == pytest.approx(np.hypot(means[0] - means[1], means[2] - means[3]) / 2)
    assert gap.std_err == pytest.approx(np.linalg.norm([gap.std_err_images, gap.std_err_log_z, gap.std_err_runs]))
    assert mean_difference(runs[:1], runs[2:]).std_err_runs is None
    # One estimate of log Z on both sides moves both alike; half is left where one side has another besides.
    assert mean_difference(runs[:2], runs[:1]).std_err_log_z == pytest.approx(np.hypot(0.3, 0.4) / 2)
    assert mean_difference(runs[:2], runs[:2]).std_err_log_z == 0
    assert mean_difference(runs[:2], [runs[2], likelihood_of(values[3][:-1])]) is None


@pytest.mark.parametrize(
    "other",
    [
        likelihood_of([-1.0, -2.0, -3.0], index=[0, 1, 3]),
        likelihood_of([-1.0, -2.0, -3.0], split="valid"),
        likelihood_of([-1.0, -2.0]),
        likelihood_of([-1.0, -2.0, float("nan")]),
    ],
    ids=["other images", "other split", "fewer", "not finite"],
)
def test_nothing_is_said_of_runs_on_other_images(other):
    assert difference(other, likelihood_of([-1.0, -2.0, -3.0])) is None


def test_a_report_shows_differences_with_their_errors(folder, many):
    records = [RunRecord.load(folder / name) for name in ("good", "bad")]
    gap = differences_from_first(records)[1]
    row = many[many.index("Differences from good</caption>") :].split("</table>")[0]
    shown = signed(gap.log_likelihood, decimals(gap.std_err))
    assert f'<td class="number">{shown}</td>' in row
    assert f"{error_text(gap.std_err_images)}</td>" in row
    # Other data: no difference.
    data = dataclasses.replace(records[1], provenance={"data_sha256": "0" * 64})
    assert differences_from_first([records[0], data]) == [None, None]


def test_runs_on_a_data_set_of_the_paper_stand_beside_it(tmp_path, good, many):
    assert "Comparison with the paper" not in good
    assert "Comparison with the paper" not in many
    run = write_run(tmp_path / "mine", dataset="mnist-static")
    page = page_of(run)
    assert "Comparison with the paper" in page.text
    assert re.search(r"Variational Gaussian process\s*−81\.32\s*Tran et al\. 2016", page.text)
    assert "#run-1-paper" in [attrs.get("href") for attrs in page.all("a")]
    # The same run twice is one row, and runs on different data are not drawn together.
    other = write_run(tmp_path / "other", dataset="omniglot", seed=1)
    text = page_of(run, other, run).text
    assert text.count("Salimans et al. 2015") == 1
    assert "Omniglot" in text


def test_runs_of_different_data_sets_share_no_figure(tmp_path):
    runs = [write_run(tmp_path / name, dataset=name, seed=i) for i, name in enumerate(("mnist", "omniglot"))]
    assert "Validation bounds over the epochs" not in html_of(*runs)
    assert "Differences from" not in html_of(*runs)
