"""Results of several machines of one training, from a .jsonl, as a curve along its steps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dvae_core.errors import ResultError
from dvae_eval.results import LogZResult, load_result_lines

NUMBER = re.compile(r"\d+")


def read_log_zs(path: Path) -> list[LogZResult]:
    """Return the estimates of log Z in a .jsonl; ResultError if it has none, or other results."""
    found = load_result_lines(path)
    results = [result for result in found if isinstance(result, LogZResult)]
    if not results or len(results) < len(found):
        raise ResultError(
            f"{path}: needs logz results and no others; make them with dvae-eval logz MODEL... -o FILE.jsonl"
        )
    return results


def curve_of(results: Sequence[LogZResult]) -> dict[str, Any]:
    """Return results of one machine each in the form of `trajectory` in a result's diagnostics.

    Returns
    -------
    dict
        The lists `steps`, `log_z`, `std_err` and `trustworthy`, in the order of the steps, and `log_likelihood`:
        `mean` and `std_err_images` for every split that all results have.
    """
    steps = _steps(results)
    order = sorted(range(len(results)), key=lambda i: steps[i])
    results = [results[i] for i in order]
    splits = [result.diagnostics.get("log_likelihood", {}).get("splits", {}) for result in results]
    names = [name for name in splits[0] if all(name in one for one in splits)]
    return {
        "steps": sorted(steps),
        "log_z": [result.log_z for result in results],
        "std_err": [result.std_err for result in results],
        "trustworthy": [result.trustworthy for result in results],
        "log_likelihood": {
            name: {key: [one[name][key] for one in splits] for key in ("mean", "std_err_images")} for name in names
        },
    }


def _steps(results: Sequence[LogZResult]) -> list[int]:
    """Return the steps: updates, else the last numbers in the names of files, else 1, 2, ..."""
    updates = [result.model.get("update") for result in results]
    numbers = [NUMBER.findall(Path(str(result.model.get("file"))).stem) for result in results]
    for found in (updates, [int(one[-1]) if one else None for one in numbers]):
        steps = [step for step in found if isinstance(step, int)]
        if len(set(steps)) == len(results):
            return steps
    return list(range(1, len(results) + 1))
