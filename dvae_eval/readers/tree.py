"""Named values in groups, and the choice of the group that is a machine.

The full name of a value contains its groups, separated by dots, whether the file uses dots, slashes, structures or
folders.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from dvae_core.errors import DataError
from dvae_core.io.files import to_utf8

from .arrays import Array, Arrays, is_machine, left_aside, read_arrays
from .layouts import LAYOUTS
from .names import role
from .options import ReadConfig, Reading

MAX_NAMES = 100_000
SETTINGS = re.compile(r"(hyper.*|config|cfg|args|options|settings|hparams|meta.*|attrs)", re.IGNORECASE)
# QuCumber has two machines per wave function: the first gives the amplitudes and has log Z, the second the phases.
AMPLITUDES, PHASES = "rbm_am", "rbm_ph"


class Lazy(Mapping[str, Array | str]):
    """A mapping whose values are loaded on first access."""

    def __init__(self, names: Mapping[str, str], load: Callable[[str], Array | str]) -> None:
        self.names, self.load = names, load
        self.kept: dict[str, Array | str] = {}

    def __getitem__(self, name: str) -> Array | str:
        if name not in self.kept:
            self.kept[name] = self.load(self.names[name])
        return self.kept[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def read_tree(
    values: Arrays,
    config: ReadConfig,
    format: str,
    *,
    declared: str | None = None,
    dtype: Callable[[str], str] | None = None,
    prefer: tuple[str, ...] = (),
    always: bool = True,
) -> Reading:
    """Return the machine among named values: the single group that is a machine.

    Parameters
    ----------
    values : dict of arrays and texts
        Under their full names.
    config : ReadConfig
    format : str
        Name of the format, for the description.
    declared : str, optional
        The units, if the format determines them.
    dtype : callable, optional
        Returns the dtype in the file of the value with a full name, if it differs from the loaded array's.
    prefer : tuple of str
        Groups whose machine is preferred to others.
    always : bool
        If no group is a machine, treat the values without a group as one, and report what they lack.

    Raises
    ------
    DataError
        If no group is a machine, or several are.
    """
    groups = _groups(values)
    group = _chosen(groups, prefer, always)
    names = _seen_from(group, groups)
    held = Lazy(names, values.__getitem__)
    of = (lambda name: dtype(names[name])) if dtype else None
    layout = next((layout for layout in LAYOUTS if layout.fits(set(names))), None)
    if layout:
        reading = layout.read(held, config, format, of)
    else:
        rows = "right" if group.rpartition(".")[2] == AMPLITUDES else None
        reading = read_arrays(held, config, format, declared=declared, rows=rows, dtype=of)
    if group:
        reading.description["group"] = to_utf8(group)
    left_aside(_others(group, set(names.values()), values), reading.description)
    return reading


def _parts(name: str) -> tuple[str, str]:
    """Return the group and the last part of a full name."""
    prefix, _, last = re.sub(r"/|___", ".", name).strip(".").rpartition(".")
    return prefix, last


def _groups(values: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the full names of the values in every group, by their last part."""
    groups: dict[str, dict[str, str]] = {}
    for name in itertools.islice(values, MAX_NAMES):
        prefix, last = _parts(name)
        # The four partitions of CaloQuVAE's prior are in separate dictionaries.
        if (found := re.fullmatch(r"(.*?)\.?(_?(weight|bias)(_mask)?_dict)", prefix)) and last.isdigit():
            prefix, last = found[1], f"{found[2]}.{last}"
        held = groups.setdefault(prefix, {})
        if last in held:
            raise DataError(f"has two values named {to_utf8(name)[:60]!r}; keep one of them")
        held[last] = name
    return groups


def _is_machine(names: set[str]) -> bool:
    """Return whether values of these names are a machine."""
    return any(layout.fits(names) for layout in LAYOUTS) or is_machine(names)


def _chosen(groups: dict[str, dict[str, str]], prefer: tuple[str, ...], always: bool) -> str:
    """Return the single group that is a machine; DataError if there is none, or several."""
    machines = [group for group, names in groups.items() if _is_machine(set(names))]
    for wanted in prefer:
        inside = [group for group in machines if group == wanted or group.startswith(f"{wanted}.")]
        if inside and len(machines) > 1:
            machines = inside
            break
    amplitudes = [group for group in machines if group.rpartition(".")[2] == AMPLITUDES]
    if len(amplitudes) == 1 and all(group.rpartition(".")[2] in (AMPLITUDES, PHASES) for group in machines):
        return amplitudes[0]
    if len(machines) == 1:
        return machines[0]
    if not machines and "" in groups and always:
        return ""
    names = ", ".join(
        sorted(machines) or sorted(to_utf8(n) for held in groups.values() for n in held.values())[:8]
    )
    found = f"contains {len(machines)} machines" if machines else "contains no machine"
    raise DataError(f"{found} ({names[:200] or 'nothing'}); save one, as W, b_left and b_right, or J and b")


def _seen_from(group: str, groups: dict[str, dict[str, str]]) -> dict[str, str]:
    """Return the values of a group, with those of its parents and their settings that determine the units."""
    names = dict(groups[group])
    for prefix, held in groups.items():
        parent, _, last = prefix.rpartition(".")
        outside = parent if SETTINGS.fullmatch(last) else prefix
        if prefix != group and (outside == "" or group == outside or group.startswith(f"{outside}.")):
            names |= {name: full for name, full in held.items() if role(name) == "kind" and name not in names}
    return names


def _others(group: str, used: set[str], values: Iterable[str]) -> list[str]:
    """Return the unused values, shortened to the first part of their names that is not shared with the group."""
    here = group.split(".") if group else []
    found: dict[str, None] = {}
    for name in itertools.islice(values, MAX_NAMES):
        if name in used:
            continue
        prefix, last = _parts(name)
        parts = [*(prefix.split(".") if prefix else []), last]
        n_shared = sum(
            1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(here, parts, strict=False))
        )
        if not any(role(part) == "harmless" or SETTINGS.fullmatch(part) for part in parts[: n_shared + 1]):
            found[".".join(parts[: n_shared + 1])] = None
    return list(found)
