"""Estimate the test log-likelihood of a model of train_peer.py, by the estimator that evaluates ours.

    dvae-eval logz runs/peer.pt --precision 0.01 -o runs/peer-logz.json
    python reproduce/peer/evaluate_peer.py runs/peer.pt --log-z runs/peer-logz.json -o runs/peer-ll.json

Finished images are kept beside the result: after a crash, run the same command again to continue.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from peer_model import load_peer

from dvae_core.data import load
from dvae_core.errors import DvaeError
from dvae_eval.config import LikelihoodConfig
from dvae_eval.likelihood.estimate_log_likelihood import estimate_log_likelihood
from dvae_eval.readers import ReadConfig, read_machine
from dvae_eval.results import LikelihoodResult, LogZResult, load_result
from dvae_eval.runtime.compute import Resources
from dvae_eval.runtime.resume import ResumeDirectory


def evaluate(path: Path, data: str, log_z: Path, output: Path, config: LikelihoodConfig) -> LikelihoodResult:
    """Estimate, and write the result to `output`.

    Raises
    ------
    DvaeError
        If a file is of the wrong kind, or log Z is that of another model.
    """
    found = load_result(log_z)
    if not isinstance(found, LogZResult):
        raise DvaeError(f"{log_z}: not a result of dvae-eval logz; give one")
    resume = ResumeDirectory(output.with_suffix(".shards"))
    result = estimate_log_likelihood(
        load_peer(path),
        load(data).fixed(config.split),
        found,
        config,
        # log Z is that of the spins, constant included, as log_joint of the model requires.
        prior=read_machine(path, ReadConfig()).machine,
        log_z_source=log_z.name,
        resources=Resources(n_workers=1),
        resume=resume,
    )
    result.save(output)
    resume.remove()
    return result


def main() -> int:
    """Estimate and print; return 3 if the result is not trustworthy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--log-z", type=Path, required=True, help="result of dvae-eval logz for MODEL")
    parser.add_argument("--output", "-o", type=Path, required=True)
    parser.add_argument("--data", default="mnist-static")
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--limit", type=int, default=0, help="number of images, evenly spread (0 = all)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = LikelihoodConfig(n_samples=args.samples, limit=args.limit)
    try:
        result = evaluate(args.model, args.data, args.log_z, args.output, config)
    except DvaeError as error:
        print(f"evaluate_peer.py: {error}", file=sys.stderr)
        return 2
    print(result if result.trustworthy else f"NOT TRUSTWORTHY: {result}", *result.reasons, sep="\n  ")
    return 0 if result.trustworthy else 3


if __name__ == "__main__":
    sys.exit(main())
