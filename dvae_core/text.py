"""Numbers as text, by one rule for results, console, tables, figures and reports.

An error has two significant digits, and its number ends at the same decimal place.  An exact number has
four decimals and no error; with an unknown error a number has two decimals.
"""

from __future__ import annotations

import math

NOT_FINITE, UNKNOWN = "not finite", "unknown"
EXACT_DECIMALS, UNKNOWN_DECIMALS = 4, 2
# A value of some hundred nats in float64 has no more significant decimals.
MAX_DECIMALS = 9
YEAR = 31_556_952


def decimals(*std_errs: float | None) -> int:
    """Return the decimal place of the second significant digit of an error, negative for tens and above.

    Parameters
    ----------
    *std_errs : float or None
        0 for an exact number; None, nan and infinity if unknown.  The largest of several determines the result.
    """
    known = [std_err for std_err in std_errs if std_err is not None and math.isfinite(std_err)]
    if len(known) < len(std_errs):
        return UNKNOWN_DECIMALS
    largest = max(map(abs, known))
    if largest == 0:
        return EXACT_DECIMALS
    # Rounded first: 0.0996 becomes 0.10, which has two decimals.
    exponent = math.floor(math.log10(float(f"{largest:.1e}")))
    return min(MAX_DECIMALS, 1 - exponent)


def fixed(value: float | None, digits: int) -> str:
    """Return `value` with `digits` decimals, rounded to tens or more if `digits` is negative.

    None, which is null in a result file, stands for a non-finite number.
    """
    if value is None or not math.isfinite(value):
        return NOT_FINITE
    return f"{round(value, min(0, digits)) if digits < 0 else value:z.{max(0, digits)}f}".replace("-", "−")


def signed(value: float | None, digits: int) -> str:
    """Return `value` with `digits` decimals and an explicit sign, for differences."""
    text = fixed(value, digits)
    return text if text == NOT_FINITE or text.startswith("−") else f"+{text}"


def error_text(std_err: float | None) -> str:
    """Return a standard error with two significant digits, `0` for that of an exact number, or `unknown`."""
    if std_err is None or not math.isfinite(std_err):
        return UNKNOWN
    if std_err == 0:
        return "0"
    return f"{std_err:.1e}" if abs(std_err) < 10 ** (1 - MAX_DECIMALS) else fixed(std_err, decimals(std_err))


def estimate(value: float | None, std_err: float | None) -> str:
    """Return "value ± error", both to the error's second significant digit; an exact number alone."""
    text = fixed(value, decimals(std_err))
    return text if text == NOT_FINITE or std_err == 0 else f"{text} ± {error_text(std_err)}"


def plain(text: str) -> str:
    """Return a text with hyphens instead of minus signs, for lines that programs may parse."""
    return text.replace("−", "-")


def short(value: float | None) -> str:
    """Return a number with four significant digits, or as a whole number if it is large."""
    if value is None or not math.isfinite(value):
        return NOT_FINITE
    if float(value).is_integer() or abs(value) >= 10_000:
        return count(round(value))
    return f"{value:.4g}".replace("-", "−")


def count(value: int) -> str:
    """Return a whole number in groups of three digits, separated by narrow no-break spaces."""
    return f"{value:,}".replace(",", "\u202f").replace("-", "−")


def duration(seconds: float) -> str:
    """Return a duration as text: `8.1 s`, `4 min 12 s`, `2 h 05 min`, `3 days 4 h`, `12 years`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    if seconds > 1e6 * YEAR:
        return "a million years or more"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    if not hours:
        return f"{minutes} min {rest} s"
    if hours < 48:
        return f"{hours} h {minutes_left:02d} min"
    days, hours_left = divmod(hours, 24)
    return f"{days} days {hours_left} h" if days < 730 else f"{count(round(seconds / YEAR))} years"


def byte_size(n: float) -> str:
    """Return a number of bytes with its unit: `1.5 GB`, `300 MB`, `12 kB`, `7 bytes`."""
    if n >= 1e6:
        return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.0f} MB"
    return f"{n / 1e3:.0f} kB" if n >= 1e3 else f"{n:.0f} bytes"
