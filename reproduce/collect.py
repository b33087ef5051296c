"""Copy from every run the files that the results page needs: settings, results and the prior, but no checkpoint.

    python reproduce/collect.py runs/reproduce reproduce/results

Of the columns per image only the log-likelihoods are kept; paired differences are computed from them. Paths in the
copies name the default directory of the runs, runs/reproduce.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from dvae_core.io.files import write_text
from dvae_eval.readers import ReadConfig, read_machine
from dvae_eval.readers.write import write_machine

TEXTS = ("config.json", "metrics.jsonl", "logz.json")
DEFAULT = "runs/reproduce"
COLUMNS = ("index", "log_likelihood")


def main(runs: Path, target: Path) -> None:
    """Copy the small files of every run below `runs` to the same place below `target`."""

    def placed(text: str) -> str:
        return text.replace(str(runs), DEFAULT)

    for path in sorted(runs.rglob("*")):
        kept = target / path.relative_to(runs)
        is_text = path.name in TEXTS or path.match("figure10/*.json")
        if is_text or path.name in ("samples.npz", "ll.json", "model.pt"):
            kept.parent.mkdir(parents=True, exist_ok=True)
        if is_text:
            write_text(kept, placed(path.read_text(encoding="utf-8")))
        elif path.name == "samples.npz":
            shutil.copyfile(path, kept)
        elif path.name == "ll.json":
            write_text(kept, placed(thinned(path.read_text(encoding="utf-8"))))
        elif path.name == "model.pt":
            found = read_machine(path, ReadConfig())
            write_machine(kept.with_name("prior.npz"), found.machine, found.constant)


def thinned(text: str) -> str:
    """Return the JSON of a likelihood without the columns per image, except index and log-likelihood."""
    result = json.loads(text)
    result["per_image"] = {name: result["per_image"][name] for name in COLUMNS}
    return json.dumps(result) + "\n"


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
