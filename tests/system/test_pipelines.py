"""The recipes of docs/how-to/use-in-pipelines.md that a shell, make and jq run."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.places import PACKAGE_ROOTS, ROOT

PAGE = (ROOT / "docs" / "how-to" / "use-in-pipelines.md").read_text(encoding="utf-8")


@pytest.fixture
def shell(tmp_path):
    """Return a function that runs a command line in a directory with two machines, dvae-eval being on the path."""
    rng = np.random.default_rng(0)
    (tmp_path / "machines").mkdir()
    for name in ("a", "b"):
        sides = {"b_left": rng.normal(size=6), "b_right": rng.normal(size=5)}
        np.savez(tmp_path / "machines" / f"{name}.npz", W=rng.normal(size=(6, 5)), **sides)
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "dvae-eval"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m dvae_cli.main "$@"\n')
    program.chmod(0o755)
    roots = os.pathsep.join(PACKAGE_ROOTS)
    path = os.pathsep.join((str(tmp_path / "bin"), os.environ["PATH"]))

    def run(line):
        environment = os.environ | {"PYTHONPATH": roots, "PATH": path}
        return subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    return run


def block_with(words):
    """Return the one block of the page that has these words."""
    [found] = [text for text in re.findall(r"^```\w+\n(.*?)^```$", PAGE, re.S | re.M) if words in text]
    return found


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_makes_what_is_out_of_date(shell, tmp_path):
    (tmp_path / "Makefile").write_text(block_with("machines :="))
    made = shell("make")
    assert made.returncode == 0, made.stderr
    table = (tmp_path / "table.txt").read_text()
    values = [json.loads((tmp_path / "machines" / f"{name}.json").read_text())["log_z"] for name in "ab"]
    assert all(f"{value:.4f}" in table for value in values)
    assert "up to date" in shell("make").stdout
    os.utime(tmp_path / "machines" / "a.npz")
    assert re.findall(r"logz machines/(\w)\.npz", shell("make -n").stdout) == ["a"]


def test_pipes_between_processes(shell, tmp_path):
    """What one writes the other reads, and a command that fails leaves no file."""
    found = shell(
        "set -o pipefail; cat machines/a.npz | dvae-eval logz - -o - -q | dvae-eval table --kind results -"
    )
    assert found.returncode == 0, found.stderr
    assert "standard input" in found.stdout
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    refused = shell(f"TMPDIR={scratch} dvae-eval logz - < /dev/null")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert list(scratch.iterdir()) == []


@pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq")
def test_jq_reads_the_lines(shell):
    line = block_with(".model.file").replace("a.npz b.npz", "machines/a.npz machines/b.npz")
    rows = [row.split("\t") for row in shell(line).stdout.splitlines()]
    assert [row[0] for row in rows] == ["machines/a.npz", "machines/b.npz"]
    assert all(float(row[2]) == 0 for row in rows)
    run = {"settings": {"groups": "2"}, "seed": 0, "ll": {"log_likelihood": -1.5}}
    runs = [run | {"status": status} for status in ("done", "pending")]
    line = block_with(".settings.groups").replace("runs.jsonl", "")
    found = shell(f"printf '%s\\n' '{json.dumps(runs[0])}' '{json.dumps(runs[1])}' | {line.strip()}")
    assert found.stdout.startswith("2\t0\t-1.5")
    assert found.stdout.count("\n") == 1
