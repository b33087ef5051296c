"""dvae-eval: measure a trained model or a Boltzmann machine, and show the results."""

from __future__ import annotations

from importlib import import_module
from typing import NoReturn

import click

from dvae_core import __version__

from .help_text import HelpContext
from .runner import run

# name: module; a command's module is imported only when the command is used.
COMMANDS = {
    "benchmark": "benchmark",
    "compare-samples": "compare_samples",
    "completion": "completion",
    "convert": "convert",
    "doctor": "doctor.command",
    "export": "export",
    "figure": "figure",
    "gradients": "gradients",
    "inspect": "inspect",
    "ll": "likelihood",
    "logz": "log_z",
    "observables": "observables",
    "report": "report",
    "samples": "samples",
    "sweep": "sweep.command",
    "table": "table",
}


class _LazyGroup(click.Group):
    """A group whose commands are imported on first use."""

    context_class = HelpContext

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands' names."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import and return a command; None if there is none of this name."""
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(f"dvae_cli.commands.{COMMANDS[name]}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command of the first argument; the error for an unknown name suggests a similar one."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            if near := get_close_matches(args[0], COMMANDS, 1):
                raise click.UsageError(f"{error.message} Did you mean {near[0]!r}?", ctx) from error
            raise


@click.group(cls=_LazyGroup)
@click.version_option(__version__)
def group() -> None:
    """Measure a discrete VAE or a Boltzmann machine: every number with its error and a verdict.

    \b
    Example:
      dvae-eval logz runs/digits/model.pt
      dvae-eval ll runs/digits/model.pt
      dvae-eval report runs/digits
      dvae-eval logz rbm.npz -o - | dvae-eval table --kind results -

    In place of an input file, - reads standard input.

    Exit status: 0 done and trustworthy, 1 failed, 2 bad input, 3 done but not to be trusted, 130 interrupted
    (Ctrl-C, SIGTERM, SIGHUP); after 130, run the same command again to continue.
    """


def main(args: list[str] | None = None) -> NoReturn:
    """Run dvae-eval."""
    run(group, "dvae-eval", args)


if __name__ == "__main__":
    main()
