"""Run pip-audit on constraints.txt and say in a line what it found: `python tests/audit.py PIP_AUDIT`, make audit.

A known vulnerability is a failure.  Where the advisories cannot be reached, or do not know the pins, that is said
and is none: continuous integration must not hang on somebody's network.
"""

import json
import subprocess
import sys
from pathlib import Path

CONSTRAINTS = Path(__file__).resolve().parent.parent / "constraints.txt"
OPTIONS = ("--no-deps", "--disable-pip", "--timeout", "10", "--progress-spinner", "off", "--format", "json")


def verdict(report):
    """Return the exit status and the lines that say what pip-audit found; of no report, that there is none."""
    if not report.strip():
        return 0, ["audit: not done, the advisories cannot be reached from here"]
    found = json.loads(report)["dependencies"]
    known = [pin for pin in found if "skip_reason" not in pin]
    lines = [
        f"{pin['name']} {pin['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'none yet'}"
        for pin in known
        for flaw in pin["vulns"]
    ]
    if lines:
        return 1, [*lines, "audit: constraints.txt pins known vulnerabilities"]
    if not known:
        return 0, [f"audit: not done, the index that can be reached from here knows none of the {len(found)} pins"]
    return 0, [f"audit: no known vulnerability in the {len(known)} of {len(found)} pins that the advisories know"]


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
