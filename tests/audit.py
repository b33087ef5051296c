"""Run pip-audit on constraints.txt and print what it found: `python tests/audit.py PIP_AUDIT`, make audit.

A known vulnerability is a failure. It is no failure if the advisories cannot be reached or do not list the pins:
continuous integration must not depend on the network. A line says so.
"""

import json
import subprocess
import sys
from pathlib import Path

CONSTRAINTS = Path(__file__).resolve().parent.parent / "constraints.txt"
OPTIONS = ("--no-deps", "--disable-pip", "--timeout", "10", "--progress-spinner", "off", "--format", "json")


def verdict(report):
    """Return the exit status and the lines to print for a report of pip-audit; an empty report means no access."""
    if not report.strip():
        return 0, ["audit: not done, the advisories cannot be reached"]
    found = json.loads(report)["dependencies"]
    known = [pin for pin in found if "skip_reason" not in pin]
    lines = [
        f"{pin['name']} {pin['version']}: {flaw['id']}, fixed in {', '.join(flaw['fix_versions']) or 'no version'}"
        for pin in known
        for flaw in pin["vulns"]
    ]
    if lines:
        return 1, [*lines, "audit: constraints.txt pins known vulnerabilities"]
    if not known:
        return 0, [f"audit: not done, the index lists none of the {len(found)} pins"]
    return 0, [f"audit: no known vulnerability in the {len(known)} of {len(found)} pins that the index lists"]


def main():
    """Run pip-audit, and exit."""
    try:
        done = subprocess.run(
            [sys.argv[1], "--requirement", str(CONSTRAINTS), *OPTIONS], capture_output=True, text=True, check=False
        )
        report = done.stdout
    except OSError:  # it could not be installed
        report = ""
    status, lines = verdict(report)
    print("\n".join(lines))
    sys.exit(status)


if __name__ == "__main__":
    main()
