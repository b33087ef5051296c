"""Click options made from configuration dataclasses: one source for names, defaults and help."""

from __future__ import annotations

import dataclasses
import os
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from dvae_core.config import option_name
from dvae_core.errors import ConfigError
from dvae_reports.names import FIGURE_FORMATS

from .console import set_quiet
from .standard_input import DASH, spool

F = TypeVar("F", bound=Callable[..., Any])

# Products of smaller matrices are faster on one thread than on two (measured: a training step with layers of 200
# units took 50 ms on one thread and 83 ms on two).
WIDE = 500
THREADS_BY_WIDTH = f"CPU threads. [default: one; all cores if a layer has {WIDE} units or more]"


class Place(click.Path):
    """The path of a file, a directory, or either; an error says what to give instead.

    For a file that is read, `-` is standard input.
    """

    def __init__(
        self,
        wanted: str,
        *,
        file: bool = True,
        directory: bool = False,
        exists: bool = True,
        suffixes: tuple[str, ...] = (),
    ) -> None:
        """Take what error messages suggest instead (`wanted`), and the kinds of paths that are allowed."""
        super().__init__(exists=exists, file_okay=file, dir_okay=directory, path_type=Path)
        self.wanted, self.suffixes = wanted, suffixes

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        if self.exists and self.file_okay and value == DASH:
            return spool(ctx or click.get_current_context())
        path = Path(os.fsdecode(value))
        if path.is_dir() and not self.dir_okay:
            self.fail(f"{path} is a directory; give {self.wanted}", param, ctx)
        if self.exists and not path.exists():
            self.fail(f"{path} does not exist; give {self.wanted}", param, ctx)
        if path.is_file() and not self.file_okay:
            self.fail(f"{path} is a file; give {self.wanted}", param, ctx)
        if self.suffixes and path.suffix not in self.suffixes:
            *others, last = self.suffixes
            self.fail(f"{path} does not end in {', '.join(others)} or {last}; give a name that does", param, ctx)
        return super().convert(value, param, ctx)


class ModelFile(Place):
    """A file, or a run directory, whose model.pt is taken."""

    def __init__(self) -> None:
        super().__init__("a file or a run", directory=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path of the file."""
        path = Path(super().convert(value, param, ctx))
        if not path.is_dir():
            return path
        if not (path / "model.pt").is_file():
            self.fail(f"{path} has no model.pt; give a run that dvae-train has finished, or a file", param, ctx)
        return path / "model.pt"


class FileOrName(click.types.StringParamType):
    """A file, `-` for standard input, or the name of a data set; the reader decides which."""

    name = "file|name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text, or the temporary file with standard input."""
        return str(spool(ctx or click.get_current_context())) if value == DASH else str(value)


OUTPUT = Place("the name of a file", exists=False)
PICTURE = Place("the name of a file", exists=False, suffixes=tuple(f".{name}" for name in FIGURE_FORMATS))
RESULT = Place("a result or a run", directory=True)


# Before click 8.4, ParamType has no type argument at run time.
class Parsed(click.ParamType):  # type: ignore[type-arg]
    """Text that a function parses; the function's ValueError is the message."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name, self.parse = name, parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return what the function makes of a text; a default of another type is returned unchanged."""
        if not isinstance(value, str):
            return value
        try:
            return self.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _integers(text: str) -> tuple[int, ...]:
    """Return integers separated by commas; `none` for an empty tuple."""
    try:
        return () if text == "none" else tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{text!r} is neither a list of integers such as 200,200 nor 'none'") from None


INTEGERS = Parsed("n,n,...", _integers)


def config_options(cls: type[Any], *, from_preset: bool = False) -> Callable[[F], F]:
    """Return a decorator that adds one option for every field of a configuration dataclass.

    Parameters
    ----------
    cls : dataclass
        Its fields are made with `dvae_core.config.option`.
    from_preset : bool
        Options that are not given are None, since a preset supplies their values.
    """

    def decorate(function: F) -> F:
        for field in reversed(dataclasses.fields(cls)):
            hint = typing.get_type_hints(cls)[field.name]
            if former := field.metadata.get("formerly"):
                function = click.option(option_name(former), former, type=_type(field, hint), hidden=True)(
                    function
                )
            function = _option(field, hint, from_preset)(function)
        return function

    return decorate


def _option(field: dataclasses.Field[Any], hint: Any, from_preset: bool) -> Callable[[F], F]:
    """Return the click option of one field."""
    name = field.metadata.get("flag") or option_name(field.name)
    is_said = from_preset or (_is_text(field) and not isinstance(field.default, str))
    settings: dict[str, Any] = {"help": field.metadata["help"], "default": None if is_said else field.default}
    settings["show_default"] = not is_said
    if hint is bool:
        return click.option(f"{name}/--no-{name[2:]}", field.name, **settings)
    return click.option(name, field.name, type=_type(field, hint), **settings)


def _type(field: dataclasses.Field[Any], hint: Any) -> Any:
    """Return the click type for the values of a field."""
    if choices := field.metadata.get("choices"):
        return click.Choice(choices)
    if _is_text(field):
        return str
    return INTEGERS if typing.get_origin(hint) is tuple else hint


def _is_text(field: dataclasses.Field[Any]) -> bool:
    """Return whether an option is text that the field parses itself, see `dvae_core.config.option`."""
    return "parse" in field.metadata


def given(cls: type[Any], values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of the options that belong to `cls` and were given, parsed, by field name.

    For an option that was given by its former name, one line on standard error states the new name.
    """
    found = {}
    for field in dataclasses.fields(cls):
        former = field.metadata.get("formerly", "")
        value = values.get(field.name)
        if values.get(former) is not None:
            click.echo(f"{option_name(former)} is now called {option_name(field.name)}", err=True)
            value = values[former]
        if value is not None:
            found[field.name] = field.metadata.get("parse", lambda value: value)(value)
    return found


def common_options(function: F) -> F:
    """Add the options of every command: `runner` looks for --debug; `console.is_quiet` returns --quiet."""
    debug = click.option(
        "--debug", is_flag=True, expose_value=False, help="Show a traceback if the command fails."
    )
    quiet = click.option(
        "--quiet",
        "-q",
        is_flag=True,
        expose_value=False,
        callback=lambda ctx, param, value: set_quiet(value),
        help="Print the result only, without progress and notes.",
    )
    return quiet(debug(function))


device_option = click.option("--device", default="cpu", show_default=True, help="Device: cpu or cuda.")


def compute_options(threads_help: str) -> Callable[[F], F]:
    """Return a decorator that adds --device and --threads; the default of --threads differs between commands."""

    def decorate(function: F) -> F:
        threads = click.option("--threads", type=click.IntRange(1), help=threads_help)
        return device_option(threads(function))

    return decorate


def scheduler_option(what: str) -> Callable[[F], F]:
    """Return a decorator that adds --scheduler to a command that can distribute `what`."""
    return click.option(
        "--scheduler",
        metavar="ADDRESS",
        help=f"Distribute {what} over the workers of a Dask scheduler, such as tcp://host:8786; the result stays "
        "the same.",
    )


def refuse_both(workers: int | None, scheduler: str | None) -> None:
    """Raise ConfigError if both --workers and --scheduler are given."""
    if workers and scheduler:
        raise ConfigError("--workers: the scheduler has its own workers; omit the option")


def file_options(
    text: str, *, kind: Place = OUTPUT, required: bool = False, keeps_better: bool = False
) -> Callable[[F], F]:
    """Return a decorator that adds --output, with the help `text`, and --force.

    `keeps_better` says that a default file with a better result is replaced only with --force.
    """
    better = ", or a better result in the default file" if keeps_better else ""
    output = click.option("--output", "-o", type=kind, required=required, help=text)
    force = click.option("--force", is_flag=True, help=f"Overwrite the file given by --output{better}.")
    return lambda function: output(force(function))


def output_options(what: str) -> Callable[[F], F]:
    """Return a decorator that adds --json, --output and --force; `what` describes the default file."""
    text = f"File to write the result to; - prints it. [default: {what}]"
    files = file_options(text, keeps_better=not what.startswith("none"))
    as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
    return lambda function: as_json(files(function))
