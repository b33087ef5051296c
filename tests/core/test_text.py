"""Numbers in words: one rule for the digits of an error bar, wherever a number is shown."""

import contextlib
import math

import pytest

from dvae_cli.console import EstimateProgress, bar_lines
from dvae_core.text import byte_size, count, decimals, duration, error_text, estimate, fixed, plain, short, signed
from dvae_eval.results import load_result
from dvae_reports.results.loaded import load_results
from dvae_reports.tables import make_tables
from tests.reports.test_report import page_of
from tests.reports.test_report_run import edit, write_run

# Two significant digits of the error, and the number to the same decimal place.
ERROR_BARS = [
    (312.4132, 0.0996, "312.41 ± 0.10"),
    (312.4132, 12.3, "312 ± 12"),
    (312.4132, 9.96, "312 ± 10"),
    (312.4132, 0.95, "312.41 ± 0.95"),
    (-27.849, 3.14, "−27.8 ± 3.1"),
    (44.36213, 0.0123, "44.362 ± 0.012"),
    (44.36213, 0.00001234, "44.362130 ± 0.000012"),
    (27_149.6, 1234.0, "27100 ± 1200"),
    (-0.0001, 0.25, "0.00 ± 0.25"),
    (44.3621301, 0.0, "44.3621"),
    (44.3621301, None, "44.36 ± unknown"),
]
cases = pytest.mark.parametrize(("value", "std_err", "text"), ERROR_BARS, ids=[text for *_, text in ERROR_BARS])


@cases
def test_the_rule(value, std_err, text):
    assert estimate(value, std_err) == text


@cases
def test_a_result_a_console_a_table_and_a_report_show_the_same_digits(value, std_err, text, tmp_path, capsys):
    run = write_run(tmp_path / "run")
    method = "exact" if std_err == 0 else "pt-bar"
    edit(run / "logz.json", log_z=value, std_err=std_err, ci95=[value, value], method=method, repeats=[])
    # On the log Z beside it: on another one it would be shifted.
    edit(run / "ll.json", log_likelihood=value, log_z=value, std_err_images=std_err, std_err_log_z=0.0)
    number, _, error = text.partition(" ± ")

    assert str(load_result(run / "logz.json")) == f"log Z = {plain(text)} nats ({method})"
    assert str(load_result(run / "ll.json")).startswith(f"log p(x) >= {plain(number)} ± {error or '0'} (images)")

    with EstimateProgress("log Z") as progress:
        progress("sampling", 1, 1, value, std_err)
    shown = plain(text if std_err is not None else number)  # nothing is said before there is an error
    assert f"log Z {shown}  " in capsys.readouterr().err

    likelihoods, estimates = make_tables("results", load_results(run))
    cells = dict(zip([column.name for column in estimates.columns], estimates.sections[0].rows[0], strict=True))
    assert (cells["log_z"].text, cells["std_err"].text) == (number, error or "0")
    cells = dict(zip([c.name for c in likelihoods.columns], likelihoods.sections[0].rows[0], strict=True))
    assert (cells["log_likelihood"].text, cells["std_err_images"].text) == (number, error or "0")

    page = page_of(run).text
    assert f"log Z = {text} nats" in page
    assert f"log p(x) ≥ {number} nats, ± {error or '0'} from the images" in page


def test_the_largest_of_several_errors_sets_the_digits():
    assert decimals(0.0123, 1.5) == 1
    assert decimals(0.0, 0.0123) == 3
    assert decimals(0.0123, math.nan) == decimals(None)


@pytest.mark.parametrize("unknown", [None, math.nan, math.inf])
def test_what_is_not_known_is_said_in_words(unknown):
    assert error_text(unknown) == "unknown"
    assert estimate(unknown, 0.1) == estimate(unknown, None) == "not finite"


def test_an_error_of_hardly_anything_keeps_its_two_digits():
    assert estimate(1.0, 1.2e-8) == "1.000000000 ± 0.000000012"
    assert estimate(1.0, 1.2e-12) == "1.000000000 ± 1.2e-12"


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(1.25, 1, "+1.2"), (-0.5, 2, "−0.50"), (-0.001, 1, "+0.0"), (None, 1, "not finite")],
)
def test_differences_have_their_sign(value, digits, text):
    assert signed(value, digits) == text


def test_numbers_without_an_error():
    assert fixed(-1254.0, -2) == "−1300"
    texts = [short(x) for x in (3.0, 0.05474, 12345.6, -0.25, None)]
    assert texts == ["3", "0.05474", "12\u202f346", "−0.25", "not finite"]
    assert [count(n) for n in (999, 1000, -12345678)] == ["999", "1\u202f000", "−12\u202f345\u202f678"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (8.14, "8.1 s"),
        (59.97, "1 min 0 s"),
        (252, "4 min 12 s"),
        (7503, "2 h 05 min"),
        (3 * 86400 + 4 * 3600, "3 days 4 h"),
        (12 * 3.156e7, "12 years"),
        (math.inf, "a million years or more"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_sizes():
    assert [byte_size(n) for n in (7, 12_300, 3e8, 1.5e9)] == ["7 bytes", "12 kB", "300 MB", "1.5 GB"]


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_a_phase_that_ends_early_ends_with_a_full_bar(error):
    """As when a run is precise enough; the last phase of work that was interrupted stays as it was."""
    progress = EstimateProgress("log Z")
    progress.terminal = progress.quiet = True
    with contextlib.suppress(KeyboardInterrupt), progress:
        progress("pilot", 3, 5, None)
        progress("tempering", 180, 200, 1.0, 0.1)
        if error:
            raise error
    pilot, tempering = (bar_lines(phase, 1.0, 100, ascii_only=True)[0] for phase in progress.phases.values())
    assert pilot.startswith("pilot 3/5 ##")
    assert "-" not in pilot
    assert tempering.startswith("tempering 180/200 ##")
    assert ("#-" in tempering) == bool(error)
