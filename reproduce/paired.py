"""The gain of a run that was evaluated on a part of the test set: `python reproduce/paired.py WHOLE PART`.

Both are `ll.json` files, which are compared image by image on the images that they share.  The gain has a smaller
error than a mean over the part; added to the mean of all images of the first run, it estimates the second one's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np


def by_image(path: Path) -> tuple[float, dict[int, float]]:
    """Return the mean log-likelihood, nats per image, and that of each image by its number."""
    found = json.loads(path.read_text(encoding="utf-8"))
    each = found["per_image"]
    return found["log_likelihood"], dict(zip(each["index"], each["log_likelihood"], strict=True))


def main(whole: Path, part: Path) -> None:
    """Print the gain and the estimate for the whole test set."""
    (mean, before), (_, after) = by_image(whole), by_image(part)
    shared = sorted(before.keys() & after.keys())
    gains = np.array([after[i] - before[i] for i in shared])
    gain, std_err = gains.mean(), gains.std(ddof=1) / len(gains) ** 0.5
    print("| images compared | gain | ± images | first run, all its images | second run, estimated |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    cells = (f"{gain:+.2f}", f"{std_err:.2f}", f"{mean:.2f}", f"{mean + gain:.2f}")
    print(f"| {len(shared)} | " + " | ".join(text.replace("-", "−") for text in cells) + " |")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
