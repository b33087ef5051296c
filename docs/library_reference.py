"""The reference of the library: the names that the packages offer, and their settings as tables."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from dvae_core.config import option_name

PACKAGES = ("dvae_core", "dvae_eval", "dvae_eval.test_machines", "dvae_reports")
# What a page includes, and of which package or page.
REFERENCE = re.compile(r"<!-- the (table|names|results|code) of (\S+) -->")
# What functions of the package return, in addition to the kinds of results in files.
RETURNED = (
    "dvae_eval.results.Result",
    "dvae_eval.states.sampled.SampledStates",
    "dvae_eval.readers.options.Reading",
)
LINK = re.compile(r"\]\[(dvae_[\w.]+)\]")


def referred_to(what: str, name: str) -> Iterator[str]:
    """Yield what a page includes: a package's names, in a table or in full, its results, or linked code."""
    if what == "code":
        return code_behind(Path(__file__).with_name(name).read_text(encoding="utf-8"))
    return {"table": table, "names": described, "results": results}[what](import_module(name))


def offered(package: ModuleType) -> dict[str, Any]:
    """Return what a package offers, in alphabetical order."""
    names = sorted(set(package.__all__) - {"__version__"}, key=str.casefold)
    return {name: getattr(package, name) for name in names}


def table(package: ModuleType) -> Iterator[str]:
    """Yield a table of the names that a package offers, each linked to its description."""
    yield from ("| name | description |", "| --- | --- |")
    for name, value in offered(package).items():
        yield f"| [`{name}`][{path_of(value)}] | {cell((value.__doc__ or '').strip().partition(chr(10))[0])} |"


def described(package: ModuleType) -> Iterator[str]:
    """Yield the descriptions of a package's names: functions, classes, and settings as tables."""
    names = offered(package)
    kinds = {
        "Functions": [name for name, value in names.items() if inspect.isroutine(value)],
        "Classes": [name for name, value in names.items() if inspect.isclass(value) and not is_settings(value)],
        "Settings": [name for name, value in names.items() if is_settings(value)],
    }
    for title, members in kinds.items():
        if members:
            yield from (f"## {title}", "")
        for name in members:
            value = names[name]
            yield from (
                settings(value) if is_settings(value) else directive(path_of(value), heading=name, toc_label=name)
            )


def results(package: ModuleType) -> Iterator[str]:
    """Yield the descriptions of the results that a package's functions return."""
    kinds = import_module(f"{package.__name__}.results").Result.__subclasses__()
    for path in [*RETURNED, *sorted({path_of(kind) for kind in kinds})]:
        yield from directive(path)


def code_behind(text: str) -> Iterator[str]:
    """Yield the descriptions of objects that a page links to and no package offers."""
    packages = [import_module(package) for package in PACKAGES]
    public = {path_of(value) for package in packages for value in offered(package).values()}
    done: list[str] = sorted(public)
    for path in sorted(set(LINK.findall(text)) - public):
        # A method is described together with its class.
        if not any(path.startswith(f"{other}.") for other in done):
            done.append(path)
            yield from directive(path, show_root_full_path=True)


def directive(path: str, **options: Any) -> Iterator[str]:
    """Yield the lines that make mkdocstrings describe an object."""
    given = {"heading_level": 3, "show_root_full_path": False, **options}
    lines = [f"      {key}: {json.dumps(value)}" for key, value in given.items()]
    yield from (f"::: {path}", "    options:", *lines, "")


def path_of(value: Any) -> str:
    """Return where an object is defined."""
    return f"{value.__module__}.{value.__qualname__}"


# --- settings -------------------------------------------------------------------------------------------------


def is_settings(value: Any) -> bool:
    """Return whether these are settings, made of options."""
    return dataclasses.is_dataclass(value) and any("help" in field.metadata for field in dataclasses.fields(value))


def settings(config: Any) -> Iterator[str]:
    """Yield the table of a configuration's fields."""
    yield from directive(path_of(config), members=False, show_signature=False, merge_init_into_class=False)
    yield from ("| name | option | default | meaning | allowed |", "| --- | --- | --- | --- | --- |")
    for field in dataclasses.fields(config):
        shown = f"`{field.name}` | {option_of(field)} | `{default_of(field.default)}`"
        yield f"| {shown} | {cell(field.metadata['help'])} | {allowed(field)} |"
    yield ""


def option_of(field: dataclasses.Field[Any]) -> str:
    """Return a setting's option on the command line; a switch has two, to turn it on and off."""
    name = field.metadata.get("flag") or option_name(field.name)
    return f"`{name}`, `--no-{name[2:]}`" if isinstance(field.default, bool) else f"`{name}`"


def default_of(value: Any) -> str:
    """Return a default as it is written."""
    return "()" if value == () else repr(value)


def allowed(field: dataclasses.Field[Any]) -> str:
    """Return the values that a setting may have."""
    choices, low, high = (field.metadata.get(key) for key in ("choices", "min", "max"))
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    return "" if low is None else f"{number(low)} to {number(high)}"


def number(value: float) -> str:
    """Return a limit in a short form: 10⁹ for 1000000000."""
    if value == 2**63 - 1:
        return "2<sup>63</sup> - 1"
    digits = f"{value:.0f}"
    if value >= 1e6 and float(digits) == 10 ** (len(digits) - 1):
        return f"10<sup>{len(digits) - 1}</sup>"
    return f"{value:g}"


def cell(text: str) -> str:
    """Return text for a cell of a table, with code unchanged."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else _literal(part) for part in parts)


def _literal(text: str) -> str:
    """Return text as Markdown in which every character is literal; "<" cannot be escaped by a backslash."""
    return re.sub(r"([|*$])", r"\\\1", text).replace("<", "&lt;")
