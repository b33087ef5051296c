"""Print the comparison as a Markdown table, from the JSON files of run.sh.

python reproduce/peer/table.py reproduce/peer/results
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from dvae_core.io.files import write_text
from dvae_eval.results import LikelihoodResult, load_result
from dvae_reports.results.paired import difference

ROWS = {
    "ours": "ours, posterior of 4 groups",
    "ours-factorial": "ours, factorial posterior",
    "peer-tuned": "plugin, tuned",
    "peer-documented": "plugin, as documented",
}
HEAD = (
    "model",
    "CPU s",
    "log p(x) >=",
    "± images",
    "± log Z",
    "ELBO",
    "log Z",
    "gap",
    "k > 0.7",
    "trusted",
    "ours more by",
)


def row(folder: Path, name: str, ours: LikelihoodResult) -> tuple[str, ...]:
    """Return the cells of one model."""
    training = json.loads((folder / f"{name}-training.json").read_text(encoding="utf-8"))
    result = _likelihood(folder, name)
    by = difference(ours, result) if name != "ours" else None
    return (
        ROWS[name],
        f"{training['cpu_seconds']:.0f}",
        f"{result.log_likelihood:.2f}",
        f"{result.std_err_images:.2f}",
        f"{result.std_err_log_z:.3f}",
        f"{result.elbo:.2f}",
        f"{result.log_z:.2f}",
        "" if result.gap is None else f"{result.gap:.2f}",
        f"{result.n_suspect} of {result.n_images}",
        "yes" if result.trustworthy else "no",
        f"{by.log_likelihood:.2f} ± {by.std_err:.2f}" if by else "",
    )


def page(folder: Path) -> str:
    """Return the table and the versions."""
    ours = _likelihood(folder, "ours")
    cells = [HEAD, ("---",) * len(HEAD), *(row(folder, name, ours) for name in ROWS)]
    lines = ["| " + " | ".join(line) + " |" for line in cells]
    lines += ["", f"{ours.n_samples} importance samples for each of {ours.n_images} images; nats per image.", ""]
    for name, title in ROWS.items():
        for reason in _likelihood(folder, name).reasons:
            lines.append(f"- {title}: {reason}")
    return "\n".join(lines).rstrip() + "\n"


def _likelihood(folder: Path, name: str) -> LikelihoodResult:
    """Return the likelihood of a model."""
    result = load_result(folder / f"{name}-ll.json")
    assert isinstance(result, LikelihoodResult)
    return result


def main() -> None:
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    text = page(args.results)
    print(text, end="")
    if args.output:
        write_text(args.output, text)


if __name__ == "__main__":
    main()
