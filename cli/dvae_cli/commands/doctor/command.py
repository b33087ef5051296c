"""dvae-eval doctor: check that this installation computes correct results."""

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
@click.option("--json", "as_json", is_flag=True, help="Print the checks as one JSON object.")
@common_options
def command(as_json: bool) -> int:
    """Check this installation.

    The command prints versions, devices and folders, and computes results for tiny models with known answers.

    \b
    Example:
      dvae-eval doctor
      dvae-eval doctor --json > installation.json

    It takes a few seconds and needs no network. Exit status 1: a check failed; its line says what to do.
    """
    from ...console import say, show
    from .self_test import environment, run_checks

    found = environment()
    checks = run_checks(lambda step: say(f"{step} ..."))
    if as_json:
        passed = all(check.passed for check in checks)
        click.echo(json.dumps({**found, "passed": passed, "checks": [asdict(check) for check in checks]}))
    else:
        for line in [*_environment_lines(found), "", *map(_check_line, checks)]:
            show(line)
    return 0 if all(check.passed for check in checks) else FAILED


def _environment_lines(found: dict[str, Any]) -> list[str]:
    """Return the lines about the installation."""
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
    """Return a check as a line: its outcome, its number with the limit and, if it failed, the remedy."""
    if check.passed:
        return f"ok      {check.name}: {check.value:.3g} (limit {check.limit})"
    return f"FAILED  {check}"
