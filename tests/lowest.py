"""Train and measure a model with the oldest releases that pyproject.toml allows.

    python tests/lowest.py                 # builds .venv/lowest: minutes, and up to three gigabytes of torch
    python tests/lowest.py -- --index-url ...

What follows `--` goes to pip. The environment is kept, and used again as long as the bounds are the same.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
ENVIRONMENT = ROOT / ".venv" / "lowest"

COMMANDS = (
    "dvae-train digits --preset demo --epochs 2 --out run -q",
    "dvae-eval logz run --method pt-bar --precision 0.1 --against-exact -q",
    "dvae-eval ll run --samples 100 --limit 50 -q",
    "dvae-eval observables run -q",
    "dvae-eval report run",
)


def pins() -> list[str]:
    """Return every dependency at the lowest version that pyproject.toml allows, such as click==8.2."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [requirement.replace(">=", "==") for requirement in project["dependencies"]]


def build(options: list[str]) -> None:
    """Install the oldest releases and this checkout, unless the environment has them."""
    built = ENVIRONMENT / "pins.json"
    if built.exists() and json.loads(built.read_text(encoding="utf-8")) == pins():
        return
    venv.create(ENVIRONMENT, clear=True, with_pip=True)
    pip = [str(ENVIRONMENT / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, *options, *pins(), "-e", str(ROOT)], check=True)
    built.write_text(json.dumps(pins()), encoding="utf-8")


def main() -> None:
    """Build the environment and run every command in it; the first that fails ends the script."""
    build(sys.argv[2:] if sys.argv[1:2] == ["--"] else [])
    paths = os.pathsep.join((str(ENVIRONMENT / "bin"), os.environ["PATH"]))
    with tempfile.TemporaryDirectory() as directory:
        for command in COMMANDS:
            print(f"$ {command}", flush=True)
            subprocess.run(command.split(), cwd=directory, env={**os.environ, "PATH": paths}, check=True)


if __name__ == "__main__":
    main()
