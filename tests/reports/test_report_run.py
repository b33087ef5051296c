"""A run directory as a value, and `write_run`, which makes a plausible one for these tests."""

import dataclasses
import json
import math

import numpy as np
import pytest

from dvae_core.config import RunConfig
from dvae_core.errors import ResultError
from dvae_core.io.files import sha256_file
from dvae_eval.results import LikelihoodResult, LogZResult
from dvae_eval.samples.grid import SampleGrid
from dvae_reports.results.run_directory import RunRecord

VERSIONS = {"python": "3.11.9", "numpy": "2.1.0", "torch": "2.5.0", "dvae-toolkit": "0.1.0"}
EXACT = 44.36213


def write_run(directory, *, dataset="digits", epochs=60, bad=False, seed=0):
    """Write a run as the commands would, with numbers drawn from `seed`; `bad` fails two checks."""
    directory.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    model_file = directory / "model.pt"
    model_file.write_bytes(rng.bytes(64))
    model = {"file": str(model_file), "sha256": sha256_file(model_file), "prior_sha256": "5e" * 32, "n_left": 32}
    write_config(directory, dataset, seed)
    lines = [json.dumps(epoch_line(epoch, rng)) for epoch in range(1, epochs + 1)]
    (directory / "metrics.jsonl").write_text("".join(line + "\n" for line in lines))
    estimate = log_z(model, rng, bad)
    estimate.save(directory / "logz.json")
    # A bad log Z is not the one that was used.
    used = (EXACT, 0.0061) if bad else (estimate.log_z, estimate.std_err)
    likelihood(model, rng, *used).save(directory / "ll.json")
    sample_grid(model, rng).save(directory / "samples.npz")
    return directory


def write_config(directory, dataset, seed):
    config = RunConfig(dataset)
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=60, seed=seed))
    command = ["dvae-train", dataset, "--out", str(directory), "--epochs", "60"]
    provenance = {"versions": VERSIONS, "command": command, "seed": seed, "data_sha256": "d1" * 32}
    (directory / "config.json").write_text(json.dumps(config.to_dict() | {"provenance": provenance}))


def epoch_line(epoch, rng):
    def bound(gap):
        kl_rbm = 4.6 * (1 - math.exp(-epoch / 9)) + rng.normal(0, 0.05)
        kl_continuous = [
            3.1 * (1 - math.exp(-epoch / 5)) + rng.normal(0, 0.04),
            1.4 * (1 - math.exp(-epoch / 14)),
        ]
        reconstruction = (
            -13.2 - 22 * math.exp(-epoch / 6) - gap * (1 - math.exp(-epoch / 25)) + rng.normal(0, 0.08)
        )
        elbo = reconstruction - kl_rbm - sum(kl_continuous)
        return dict(elbo=elbo, reconstruction=reconstruction, kl_rbm=kl_rbm, kl_continuous=kl_continuous)

    return {
        "epoch": epoch,
        "step": 13 * epoch,
        "seconds": 2.4 * epoch,
        "images_per_s": 3100.0,
        "learning_rate": 3e-3 * 0.05 ** (epoch / 60),
        "kl_weight": min(1.0, 0.05 + epoch / 6),
        "sharpness": min(20.0, 2.6 + 0.05 * epoch),
        "log_z": 44.36 + rng.normal(0, 0.1),
        "train": bound(0.0),
        "valid": bound(0.9),
        "rbm": {"mean_activation": 0.48, "weight_rms": 0.12, "weight_max": 0.9},
    }


def log_z(model, rng, bad=False):
    repeats = EXACT + rng.normal(-0.4 if bad else 0, 0.034, 32)
    estimate, std_err = float(repeats.mean()), float(repeats.std(ddof=1) / math.sqrt(32))
    n_rungs = 12
    ladder = np.linspace(0, 1, n_rungs) ** 1.4
    n_sweeps = np.arange(500, 10_001, 500)
    noise = np.cumsum(rng.normal(0, 0.02, n_sweeps.size)) / np.arange(1, n_sweeps.size + 1)
    checks = [
        check("round trips in the laziest ladder", 0 if bad else 41, 10, not bad, "give --sweeps a larger number"),
        check("smallest overlap of neighbours", 0.03 if bad else 0.41, 0.05, not bad, "add rungs with --rungs"),
        check("halves of the run differ, in standard errors", 0.7, 3.0, True, "run longer"),
        check("stepping stones differ, in nats", 0.021, 0.1, True, "add rungs or run longer"),
    ]
    diagnostics = {
        "betas": ladder,
        "exchange_rates": np.clip(0.5 + rng.normal(0, 0.03, n_rungs - 1), 0, 1),
        "barrier": 5.51,
        "round_trips": rng.integers(40, 70, 32),
        "delta_f": np.full(n_rungs - 1, (EXACT - 64 * math.log(2)) / (n_rungs - 1)),
        "overlaps": np.clip(0.45 + rng.normal(0, 0.02, n_rungs - 1), 0, 1),
        "stepping_stones": {"forward": EXACT + 0.012, "reverse": EXACT - 0.009},
        "halves": [estimate + 0.006, estimate - 0.005],
        "running": {
            "n_sweeps": n_sweeps,
            "log_z": estimate + noise - noise[-1],
            "std_err": std_err * np.sqrt(n_sweeps[-1] / n_sweeps),
        },
        "checks": checks,
        "exact": {"log_z": EXACT},
    }
    return LogZResult(
        **common(model, 7, ["dvae-eval", "logz", model["file"], "--seed", "7"], diagnostics, checks),
        log_z=estimate,
        std_err=std_err,
        ci95=[estimate - 2.04 * std_err, estimate + 2.04 * std_err],
        method="pt-bar",
        repeats=repeats.tolist(),
    )


def likelihood(model, rng, log_z, std_err_log_z):
    n_images, n_samples = 899, 10_000
    per_image = -22.4 - rng.gamma(6.0, 0.9, n_images)
    ess = np.exp(rng.normal(5.5, 1.1, n_images)).clip(1, n_samples)
    n_curve = [1, 10, 100, 1000, 10_000]
    mean, std_err = float(per_image.mean()), float(per_image.std() / math.sqrt(n_images))
    bound = [mean - 2.2, mean - 0.75, mean - 0.22, mean - 0.05, mean]
    checks = [check("rise over the last decade of samples, in nats", 0.05, 0.2, True, "give more --samples")]
    diagnostics = {
        "bound_curve": {"n_samples": n_curve, "log_likelihood": bound, "std_err": [std_err] * 5},
        "checks": checks,
    }
    return LikelihoodResult(
        **common(model, 11, ["dvae-eval", "ll", model["file"], "--seed", "11"], diagnostics, checks),
        log_likelihood=mean,
        std_err_images=std_err,
        std_err_log_z=std_err_log_z,
        elbo=mean - 2.2,
        elbo_parts={"reconstruction": -20.1, "kl_rbm": -4.6, "kl_continuous": mean - 2.2 + 24.7},
        n_samples=n_samples,
        n_images=n_images,
        log_z=log_z,
        log_z_source="logz.json",
        per_image={"log_likelihood": per_image.tolist(), "ess": ess.tolist()},
    )


def check(name, value, threshold, passed, remedy):
    return dict(name=name, value=value, threshold=threshold, passed=passed, remedy=remedy)


def common(model, seed, command, diagnostics, checks):
    reasons = [
        f"{c['name']}: {c['value']} (limit {c['threshold']}); {c['remedy']}" for c in checks if not c["passed"]
    ]
    return dict(
        model=model,
        settings={"n_sweeps": 10_000, "n_replicates": 32},
        seed=seed,
        trustworthy=not reasons,
        reasons=reasons,
        diagnostics=diagnostics,
        versions=VERSIONS,
        command=command,
        wall_seconds=38.2,
    )


def sample_grid(model, rng, size=8):
    """Blurred rings and bars, which drift from row to row."""
    y, x = np.mgrid[:size, :size] / (size - 1) - 0.5

    def draw(radius, tilt, noise):
        ring = np.exp(-(((np.hypot(x, y * (1 + tilt)) - radius) / 0.13) ** 2))
        return np.uint8(255 * np.clip(ring + noise * rng.normal(0, 0.1, ring.shape), 0, 1))

    samples = [
        [[draw(0.1 + 0.07 * chain + 0.01 * row, rng.normal(0, 0.2), 1) for _ in range(5)] for chain in range(4)]
        for row in range(10)
    ]
    originals = np.array([np.uint8(draw(0.1 + 0.015 * i, 0.1, 0) > 127) * 255 for i in range(20)])
    made = np.array([draw(0.1 + 0.015 * i, 0.1, 1) for i in range(20)])
    command = ["dvae-eval", "samples", model["file"]]
    return SampleGrid(
        np.array(samples), originals, made, {"model": model, "n_sweeps": 100, "seed": 3, "command": command}
    )


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "digits-small")


def edit(path, **changes):
    """Change fields of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_load_reads_everything(run):
    record = RunRecord.load(run)
    assert record.config.dataset == "digits"
    assert len(record.epochs) == 60
    assert record.epochs[-1].valid.elbo < record.epochs[-1].train.elbo
    assert record.log_z.method == "pt-bar"
    assert record.likelihood.n_images == 899
    assert record.samples.samples.shape == (10, 4, 5, 8, 8)
    assert record.model_sha256 == sha256_file(run / "model.pt")
    assert record.notes == []


def test_what_was_not_measured_is_none(run):
    for name in ("logz.json", "ll.json", "samples.npz", "metrics.jsonl"):
        (run / name).unlink()
    record = RunRecord.load(run)
    assert (record.log_z, record.likelihood, record.samples, record.epochs) == (None, None, None, [])


@pytest.mark.parametrize("name", ["logz.json", "ll.json"])
def test_result_of_another_model_is_refused(run, name):
    model = json.loads((run / name).read_text())["model"]
    edit(run / name, model=model | {"sha256": "00" * 32})
    with pytest.raises(ResultError) as error:
        RunRecord.load(run)
    assert str(run / name) in str(error.value)
    assert str(run / "model.pt") in str(error.value)


def test_samples_of_another_model_are_refused(run):
    sample_grid({"file": "m", "sha256": "00" * 32}, np.random.default_rng(0)).save(run / "samples.npz")
    with pytest.raises(ResultError, match=r"samples\.npz.*model\.pt"):
        RunRecord.load(run)


def test_a_model_trained_further_makes_its_results_stale(run):
    (run / "model.pt").write_bytes(b"trained further")
    with pytest.raises(ResultError, match=r"logz\.json.*another model.*dvae-eval logz"):
        RunRecord.load(run)


def test_without_the_model_results_must_agree_and_it_is_said(run):
    (run / "model.pt").unlink()
    assert "model.pt is missing" in RunRecord.load(run).notes[0]
    edit(run / "ll.json", model={"sha256": "00" * 32})
    with pytest.raises(ResultError, match=r"ll\.json.*logz\.json"):
        RunRecord.load(run)


def test_half_written_last_line_is_left_out_and_said(run):
    path = run / "metrics.jsonl"
    path.write_text(path.read_text()[:-40])
    record = RunRecord.load(run)
    assert len(record.epochs) == 59
    assert "(60)" in record.notes[0]


@pytest.mark.parametrize("damage", ['{"epoch": 2, "st', "{}", "[]", "3"])
def test_damaged_middle_line_is_named(run, damage):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    lines[1] = damage
    (run / "metrics.jsonl").write_text("\n".join(lines))
    with pytest.raises(ResultError, match=r"metrics\.jsonl: line 2 "):
        RunRecord.load(run)


@pytest.mark.parametrize(
    "content", [None, "", "[]", "{}", '{"dataset": "digits", "model": {"n_left": 0}, "train": {}}']
)
def test_unusable_configuration_is_named(run, content):
    (run / "config.json").unlink()
    if content is not None:
        (run / "config.json").write_text(content)
    with pytest.raises(ResultError, match=r"config\.json"):
        RunRecord.load(run)


def test_a_result_under_another_name_is_refused(run):
    (run / "logz.json").write_bytes((run / "ll.json").read_bytes())
    with pytest.raises(ResultError, match=r"logz\.json: contains a result of kind 'll'"):
        RunRecord.load(run)
