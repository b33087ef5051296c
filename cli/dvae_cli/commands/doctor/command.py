"""dvae-eval doctor: check that this installation computes what it should."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ...options import common_options
from ...sections import Command

if TYPE_CHECKING:
    from dvae_eval.verdict import Check

FAILED = 1


@click.command("doctor", cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
@common_options
def command(as_json: bool, quiet: bool, debug: bool) -> int:
    """Check this installation on tiny models whose answers are known, and say what it consists of.

    \b
    Example:
      dvae-eval doctor
      dvae-eval doctor --json > installation.json

    Takes some seconds and needs no network. Exit status 1 if a check fails.
    """
    from ...console import say, show
    from .self_test import checkup, environment

    found = environment()
    checks = checkup(lambda words: say(f"{words} ...", quiet))
    if as_json:
        passed = all(check.passed for check in checks)
        click.echo(json.dumps({**found, "passed": passed, "checks": [asdict(check) for check in checks]}))
    else:
        for line in [*_environment_lines(found), "", *map(_check_line, checks)]:
            show(line)
    return 0 if all(check.passed for check in checks) else FAILED


def _environment_lines(found: dict[str, Any]) -> list[str]:
    """Return what the installation consists of, a line each."""
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    variables = ", ".join(f"{name}={value}" for name, value in found["variables"].items())
    return [
        f"{'system':10}{found['system']}",
        f"{'versions':10}{versions}",
        f"{'devices':10}{', '.join(found['devices'])}",
        f"{'threads':10}{found['threads']} of {found['cores']} cores" + (f" ({variables})" if variables else ""),
        *(f"{'data' if not i else '':10}{name}: {place}" for i, (name, place) in enumerate(found["data"].items())),
    ]


def _check_line(check: Check) -> str:
    """Return a check as a line: its outcome, its number with the limit, and what to do if it failed."""
    if check.passed:
        return f"ok      {check.name}: {check.value:.3g} (limit {check.limit})"
    return f"FAILED  {check}"
