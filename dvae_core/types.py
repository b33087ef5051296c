"""Array types that many modules share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Float"]

Float = NDArray[np.float64]
