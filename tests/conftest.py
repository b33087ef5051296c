"""What all tests share: a command line, and one trained run."""

import fcntl
import os
import shutil
import signal
from pathlib import Path

import pytest

from dvae_cli.main import main as dvae_eval
from dvae_cli.train import main as dvae_train
from tests.commands import SMALL, Done, status_of

# A shell starts what runs in the background with Ctrl-C ignored, and children inherit that: not so the tests.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def cli(capsys):
    """Return a function that runs dvae-eval, or another `main`, and returns status, output and messages."""

    def run(*args, main=dvae_eval):
        status = status_of(main, *args)
        return Done(status, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory):
    """Return a small trained run, one for all processes of the tests; its files are not to be changed."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with open(base / "trained.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (base / "trained" / "model.pt").exists():
            assert status_of(dvae_train, "bars-and-stripes", "--out", base / "trained", "--quiet", *SMALL) == 0
    return base / "trained"


@pytest.fixture
def run(trained_run, tmp_path_factory):
    """Return a copy of the trained run, which a test may change."""
    return Path(shutil.copytree(trained_run, tmp_path_factory.mktemp("copy") / "run"))


@pytest.fixture(params=["numba", "torch"])
def engine(request, monkeypatch):
    """Let replicas be compiled, and those of torch."""
    monkeypatch.setattr("dvae_eval.sampling.tempering.has_numba", lambda: request.param == "numba")
    return request.param
