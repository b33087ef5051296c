"""The benchmarks run and account for all of the time; their figures are nobody's promise."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_train_step_by_parts(tmp_path):
    path = tmp_path / "step.json"
    command = [sys.executable, "benchmarks/train_step.py", "bars-and-stripes-small", "--threads", "1"]
    command += ["--repeats", "2", "--warmup", "1", "--json", str(path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(path.read_text())
    parts = found["parts"]
    assert list(parts) == ["sampling", "encoder", "decoder", "backward", "optimiser", "other"]
    for name in ("sampling", "encoder", "decoder", "backward"):
        assert parts[name]["floor_ms"] > 0
        assert parts[name]["ms"] > 0
    # Two repeats: medians are means, so the parts add up.
    assert sum(part["ms"] for part in parts.values()) == pytest.approx(found["step"]["ms"])
    assert done.stdout.splitlines()[-1].startswith("step")


def test_likelihood_pairs(tmp_path):
    path = tmp_path / "pairs.json"
    command = [sys.executable, "benchmarks/likelihood.py", "demo", "--repeats", "2", "--samples", "600"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, "--json", str(path)], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(path.read_text())
    assert set(found["pairs_per_s"]) == {"weights", "straightforward", "products", "decoder"}
    assert all(rate > 0 for rate in found["pairs_per_s"].values())
    # Multiplications and additions of the demo's decoder: 32 units and 2 layers of 8 to 64 pixels.
    assert found["decoder_products_per_pair"] == 2 * (32 + 16) * 64
    assert done.stdout.splitlines()[-1].startswith("weights")
