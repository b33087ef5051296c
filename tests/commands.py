"""Commands run in this process, as the console would run them."""

from typing import NamedTuple

import pytest

# A model that is trained in seconds, for tests of what is done with a trained run.
SMALL = ("--left", 4, "--right", 3, "--groups", 2, "--continuous", 2, "--encoder-hidden", 16)
SMALL += ("--prior-hidden", "none", "--epochs", 2, "--chains", 20, "--sweeps", 2)


class Done(NamedTuple):
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str


def status_of(main, *args) -> int:
    """Run a command; return its exit status."""
    with pytest.raises(SystemExit) as exit:
        main([str(arg) for arg in args])
    return exit.value.code or 0
