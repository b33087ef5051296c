"""Run a command that exits with its parent process: `python -m <this module> main logz ...`."""

from __future__ import annotations

import os
import runpy
import sys
import threading


def _hold() -> None:
    """End this process when the other end of standard input is closed."""
    os.read(0, 1)
    # At once, as by a kill: saved work is safe, and the run may already be resumed elsewhere.
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_hold, daemon=True).start()
    module, *sys.argv[1:] = sys.argv[1:]
    runpy.run_module(f"dvae_cli.{module}", run_name="__main__", alter_sys=True)
