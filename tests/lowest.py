"""Run the tests of dvae_core, of commands and of reports with the oldest releases that pyproject.toml allows.

    python tests/lowest.py                 # builds .venv/lowest: minutes, and gigabytes of torch on Linux
    python tests/lowest.py --index-url ... # options of pip

The environment is kept, and used again as long as the bounds are the same. Warnings of old releases are no errors.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
ENVIRONMENT = ROOT / ".venv" / "lowest"
PYTHON = str(ENVIRONMENT / "bin" / "python")
TESTS = ("tests/core", "tests/cli", "tests/reports")


def pins() -> list[str]:
    """Return every dependency at the lowest version that pyproject.toml allows, such as click==8.2."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [requirement.replace(">=", "==") for requirement in project["dependencies"]]


def build(options: list[str]) -> None:
    """Install the oldest releases, this checkout and what its tests need, unless the environment has them."""
    built = ENVIRONMENT / "pins.json"
    if built.exists() and json.loads(built.read_text(encoding="utf-8")) == pins():
        return
    venv.create(ENVIRONMENT, clear=True, with_pip=True)
    pip = [PYTHON, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, *options, *pins(), "-e", f"{ROOT}[dev]"], check=True)
    built.write_text(json.dumps(pins()), encoding="utf-8")


if __name__ == "__main__":
    build(sys.argv[1:])
    options = "-q -W default -n auto --dist loadfile --timeout 600".split()
    sys.exit(subprocess.run([PYTHON, "-m", "pytest", *options, *TESTS], cwd=ROOT).returncode)
