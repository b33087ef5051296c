"""The benchmarks run and account for all of the time; their figures are nobody's promise."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run(path, *arguments):
    """Return the figures of a benchmark that ran, and its lines."""
    command = [sys.executable, *arguments, "--json", str(path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(path.read_text()), done.stdout.splitlines()


def test_train_step_by_parts(tmp_path):
    arguments = ["bars-and-stripes-small", "--threads", "1", "--repeats", "2", "--warmup", "1"]
    found, lines = run(tmp_path / "step.json", "benchmarks/train_step.py", *arguments)
    parts = found["parts"]
    assert list(parts) == ["sampling", "encoder", "decoder", "backward", "optimiser", "other"]
    for name in ("sampling", "encoder", "decoder", "backward"):
        assert parts[name]["floor_ms"] > 0
        assert parts[name]["ms"] > 0
    # Two repeats: medians are means, so the parts add up.
    assert sum(part["ms"] for part in parts.values()) == pytest.approx(found["step"]["ms"])
    assert lines[-1].startswith("step")


def test_gibbs_beside_its_limits(tmp_path):
    found, lines = run(tmp_path / "gibbs.json", "benchmarks/gibbs.py", "--quick", "--threads", "1", "2")
    assert [result["threads"] for result in found["results"]] == [1, 2]
    for result in found["results"]:
        assert {"naive torch", "numba", "numba, tempering", "products alone"} < result["rows"].keys()
        assert all(row["per_core_second"] > 0 for row in result["rows"].values())
    assert lines[0].split()[:3] == ["20x30,", "1", "thread"]
