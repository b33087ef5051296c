"""Where things of the checkout lie."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE_ROOTS = [str(ROOT / part) for part in (".", "cli", "reports")]  # for PYTHONPATH
DATA = ROOT / "tests" / "data"
FORMATS, CASES = DATA / "formats", DATA / "cases"
