"""Results of several machines of one training, a line of JSON each, as a curve along its steps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dvae_core.errors import ResultError
from dvae_eval.results import LogZResult, load_result_lines

NUMBER = re.compile(r"\d+")


def read_log_zs(path: Path) -> list[LogZResult]:
    """Return the estimates of log Z in a file of lines; ResultError if there are none, or it holds others."""
    found = load_result_lines(path)
    results = [result for result in found if isinstance(result, LogZResult)]
    if not results or len(results) < len(found):
        raise ResultError(
            f"{path}: holds no lines of logz results alone; make them with logz MODEL... -o FILE.jsonl"
        )
    return results


def curve_of(results: Sequence[LogZResult]) -> dict[str, Any]:
    """Return what `trajectory` of a result's diagnostics has, of results of one machine each.

    Returns
    -------
    dict
        `steps`, `log_z`, `std_err` and `trustworthy`, lists in the order of the steps, and `log_likelihood`, of
        every split `mean` and `std_err_images`, if all of them have it.
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
    """Return the step of each: its update, else the last number in its file's name, else its place from 1."""
    updates = [result.model.get("update") for result in results]
    numbers = [NUMBER.findall(Path(str(result.model.get("file"))).stem) for result in results]
    for found in (updates, [int(one[-1]) if one else None for one in numbers]):
        steps = [step for step in found if isinstance(step, int)]
        if len(set(steps)) == len(results):
            return steps
    return list(range(1, len(results) + 1))
