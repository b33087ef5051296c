"""Run a command that exits with its parent process: `python -m <this module> main logz ...`."""

from __future__ import annotations

import os
import runpy
import sys
import threading


def _exit_with_parent() -> None:
    """Wait until the parent closes its end of standard input, then exit."""
    os.read(0, 1)
    # At once, as after a kill: saved work is safe, and the run may already be resumed elsewhere.
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    module, *sys.argv[1:] = sys.argv[1:]
    runpy.run_module(f"dvae_cli.{module}", run_name="__main__", alter_sys=True)
