"""A run that version 0.1 left unfinished, with results of its model: what was written before opens, and goes on.

Made on the CPU by `dvae-train bars-and-stripes --left 3 --right 3 --groups 1 --layers 0 --encoder-hidden 4
--chains 10 --sweeps 2 --epochs 12`, stopped by Ctrl-C in its fourth epoch, `dvae-eval logz --method pt-bar
--sweeps 400` and `dvae-eval ll --samples 20 --limit 4`.
"""

import json
import shutil

import pytest

from dvae_cli.main import main as dvae_eval
from dvae_cli.train import main as dvae_train
from dvae_core.training.checkpoint import load_model
from dvae_eval.exact.plan import exact_log_z
from dvae_eval.readers import read_machine
from dvae_eval.results import load_result
from tests.commands import status_of
from tests.places import DATA

OLD = DATA / "run-of-0.1"
LOG_Z = 4.127732  # by enumeration, as that version printed it
# Validation bound after epoch 12 of the same run undisturbed; six other seeds end between -12.54 and -12.06.
# Where it was made the end is the same to the last digit; another processor may round otherwise.
LAST_BOUND, TOLERANCE = -12.431146, 0.05


@pytest.fixture
def run(tmp_path):
    return shutil.copytree(OLD, tmp_path / "run")


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_an_unfinished_run_goes_on(run):
    """Its first epochs are kept to the letter, and the end is that of a run without a break."""
    before = metrics(run)
    assert status_of(dvae_train, "--resume", "--out", run, "-q") == 0
    after = metrics(run)
    assert [epoch["epoch"] for epoch in after] == list(range(1, 13))
    assert after[: len(before)] == before
    assert after[-1]["valid"]["elbo"] == pytest.approx(LAST_BOUND, abs=TOLERANCE)


def test_a_model_has_the_weights_it_had():
    assert load_model(OLD / "model.pt").image_shape == (4, 4)
    assert exact_log_z(read_machine(OLD / "model.pt").machine) == pytest.approx(LOG_Z, abs=1e-6)


def test_results_are_read_with_their_settings():
    log_z, likelihood = load_result(OLD / "logz.json"), load_result(OLD / "ll.json")
    assert abs(log_z.log_z - LOG_Z) < 4 * log_z.std_err
    assert log_z.settings["n_sweeps"] == 400
    assert (likelihood.n_images, likelihood.n_samples) == (4, 20)
    assert likelihood.log_z == pytest.approx(LOG_Z, abs=1e-6)


def test_a_report_of_the_run_is_made(run):
    assert status_of(dvae_eval, "report", run, "-q") == 0
    assert "4.128" in (run / "report.html").read_text()
