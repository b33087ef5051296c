"""Numbers as a person reads them: as many digits as the error allows, real minus signs, units spelt out."""

from __future__ import annotations

import math

__all__ = ["count", "decimals", "duration", "error_text", "estimate", "fixed", "short", "signed"]

NOT_FINITE = "not finite"


def decimals(std_err: float | None) -> int:
    """Return how many decimals two significant digits of `std_err` need: at most 6, and 4 if it is unknown."""
    if std_err is None or not math.isfinite(std_err) or std_err <= 0:
        return 4
    # Rounded first: 0.0996 is 0.10, which deserves two decimals and not three.
    exponent = math.floor(math.log10(float(f"{std_err:.1e}")))
    return min(6, max(0, 1 - exponent))


def fixed(value: float | None, digits: int) -> str:
    """Return `value` with `digits` decimals; a result file holds null where a number was not finite."""
    if value is None or not math.isfinite(value):
        return NOT_FINITE
    return f"{value:.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int) -> str:
    """Return `value` with `digits` decimals and its sign, as differences are written."""
    text = fixed(value, digits)
    return text if text == NOT_FINITE or text.startswith("−") else f"+{text}"


def error_text(std_err: float | None) -> str:
    """Return a standard error with two significant digits."""
    return fixed(std_err, decimals(std_err))


def estimate(value: float | None, std_err: float | None) -> str:
    """Return "value ± error", both to the error's second significant digit."""
    return f"{fixed(value, decimals(std_err))} ± {error_text(std_err)}"


def short(value: float | None) -> str:
    """Return a number of which only the size matters, with four significant digits."""
    if value is None or not math.isfinite(value):
        return NOT_FINITE
    if float(value).is_integer() or abs(value) >= 10_000:
        return count(round(value))
    return f"{value:.4g}".replace("-", "−")


def count(value: int) -> str:
    """Return a whole number in groups of three digits, parted by narrow spaces that do not break."""
    return f"{value:,}".replace(",", "\u202f").replace("-", "−")


def duration(seconds: float) -> str:
    """Return a time as a person says it: `8.1 s`, `4 min 12 s`, `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left:02d} min" if hours else f"{minutes} min {rest} s"
