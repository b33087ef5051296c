"""dvae-eval figure: draw a figure from result files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dvae_reports.names import FIGURES, FONTS, FORMER_FIGURES, WIDTHS

from ..labels import label_option
from ..options import PICTURE, RESULT, Parsed, common_options, file_options
from ..sections import Command


class FigureName(click.Choice[str]):
    """The name of a figure; for a name of an earlier version, the new name is printed."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the present name of the figure."""
        if value in FORMER_FIGURES:
            click.echo(f"figure {value} is now called {FORMER_FIGURES[value]}", err=True)
        return super().convert(FORMER_FIGURES.get(value, value), param, ctx)


def _inches(text: str) -> float:
    """Return a width in inches, from a number or the name of a width."""
    try:
        width = WIDTHS[text] if text in WIDTHS else float(text)
    except ValueError:
        width = 0.0
    if not 1 <= width <= 40:
        raise ValueError(f"{text!r} is neither column, page, nor a number of inches from 1 to 40")
    return width


@click.command(
    "figure", cls=Command, epilog="Figures:\n\n\b\n" + "\n".join(f"  {n:17} {text}" for n, text in FIGURES.items())
)
@click.argument("name", type=FigureName(list(FIGURES)), metavar="NAME")
@click.argument("files", nargs=-1, type=RESULT, metavar="[FILE]...")
@file_options("A .png, .svg or .pdf file.", kind=PICTURE, required=True)
@click.option(
    "--width",
    type=Parsed("inches", _inches),
    default="column",
    show_default=True,
    help=f"Width in inches, or column ({WIDTHS['column']}) or page ({WIDTHS['page']}).",
)
@click.option(
    "--font",
    type=click.Choice(FONTS),
    default="sans",
    show_default=True,
    help="Font of text and mathematics; serif looks like Times.",
)
@label_option
@common_options
def command(
    name: str,
    files: tuple[Path, ...],
    output: Path,
    width: float,
    font: str,
    labels: tuple[tuple[str, str], ...],
    force: bool,
) -> None:
    """Draw a figure from results.

    NAME is one of the figures listed below; FILE is a result or a run directory.

    \b
    Example:
      dvae-eval figure logz runs/mnist runs/omniglot -o figure10.pdf --width page
      dvae-eval figure samples runs/mnist -o samples.png
      dvae-eval figure posterior-layers sweeps/groups/* -o figure6c.svg
      dvae-eval figure training runs/a runs/b -o training.pdf --label runs/a=ours --font serif
      dvae-eval figure smoothing -o figure2.pdf --width page

    Runs that differ only in their seeds share one line: their mean, with a band of one standard deviation. The
    same input files produce the same bytes. Lines and markers can be distinguished without colour.
    """
    from dvae_reports.figures.registry import draw, figure_bytes, left_out

    from ..console import say
    from ..outputs import find_output

    place = find_output(output, force, text=False)
    content = figure_bytes(draw(name, files, width, font=font, labels=labels), output.suffix[1:])
    place.write(content)
    for line in left_out(name, files, labels):
        say(line)
    say(f"saved: {place}")
