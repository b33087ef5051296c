"""The lines about a log-likelihood: the parts of the number, and how far off it may be."""

from __future__ import annotations

from typing import Any

from dvae_core.text import decimals, error_text, estimate, fixed, plain
from dvae_eval.results import LikelihoodResult


def details(result: LikelihoodResult, bits: bool) -> list[str]:
    """Return lines to print: the parts of the number, and how far off it may be."""
    parts = result.elbo_parts
    ess = sorted(result.per_image["ess"])
    lines = [
        f"bound with one sample (ELBO) {result.elbo:.2f} = reconstruction {parts['reconstruction']:.2f} "
        f"- KL of the binary units {-parts['kl_rbm']:z.2f} "
        f"- KL of the continuous layers {0.0 - parts['kl_continuous']:.2f}",
        f"effective samples per image: median {ess[len(ess) // 2]:.0f}, smallest {ess[0]:.1f} "
        f"of {result.n_samples}; log Z {estimate(result.log_z, result.std_err_log_z)} "
        f"({result.log_z_source})",
    ]
    more = "--ais-chains" if result.settings["method"] == "ais" else "--samples"
    if result.gap is None:
        lines.append(
            f"{result.n_samples} samples are too few to estimate how far the bound lies below log p(x); "
            f"give more {more}"
        )
    else:
        lines.append(
            f"estimated gap of the bound below log p(x): {error_text(result.gap)} nats, within a factor of two; "
            f"the weights of {result.n_suspect} of {result.n_images} images have heavy tails (Pareto k)"
            + (f"; more {more} reduce the gap" if result.n_suspect and not result.warnings else "")
        )
    lines.append(_simulated(result.diagnostics["simulated"]))
    if beside := result.diagnostics.get("importance"):
        digits = decimals(result.std_err_images, result.std_err_log_z)
        lines.append(
            f"importance weighting on the same images: {fixed(beside['log_likelihood'], digits)} "
            f"({beside['n_samples']} samples); annealing differs by "
            f"{estimate(beside['difference'], beside['difference_std_err'])}"
        )
    if effect := result.diagnostics.get("precision_effect"):
        lines.append(
            f"{result.settings['precision']} shifts the estimate by {estimate(effect['mean'], effect['std_err'])} "
            f"nats per image (compared with float32 on {effect['n_images']} images, with the same noise)"
        )
    for part in result.diagnostics.get("continued_from", [])[-1:]:
        shift = result.log_z - part.get("log_z", result.log_z)  # earlier versions did not record it
        lines.append(
            f"continued from {part['n_images']} images and {part['n_samples']} samples ({part['date'][:10]})"
            + (f"; log Z has changed by {shift:+.2g} nats since" if shift else "")
        )
    if bits:
        lines.append(f"{result.bits_per_dim:.4f} bits per dimension")
    return [plain(line) for line in lines]


def _simulated(found: dict[str, Any]) -> str:
    """Return the line about the gap on simulated images."""
    if why_not := found.get("not_done"):
        return f"the gap was not estimated on simulated images: {why_not}"
    alone = found["gap_from_proposals"]
    from_samples = "" if alone is None else f"; from q's samples alone {error_text(alone)}"
    images = f"{found['n_images']} simulated {'image' if found['n_images'] == 1 else 'images'}"
    return (
        f"gap on {images}: {estimate(found['gap'], found['std_err'])} nats "
        f"(upper bound {estimate(found['bound'], found['bound_std_err'])})"
        f"{from_samples} (prior states: {found['states']})"
    )
