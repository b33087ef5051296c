"""A short run of the stress test with the other tests; `make stress` is the long one."""

import subprocess
import sys

from tests.places import ROOT

KILLS = ROOT / "tests" / "stress" / "kills.py"


def stress(*options):
    return subprocess.run([sys.executable, KILLS, *options], capture_output=True, text=True, timeout=500)


def test_commands_survive_kills():
    done = stress("--kills", "7")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no saved work was lost or misread, and no file was left behind" in done.stdout


def test_files_that_are_written_in_place_are_found_out():
    done = stress("--kills", "20", "--only", "train", "--in-place")
    assert done.returncode == 1
    assert "not a readable" in done.stderr
