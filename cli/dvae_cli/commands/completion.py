"""dvae-eval completion: scripts for shells, which complete commands, options and file names."""

from __future__ import annotations

import click

from ..options import common_options
from ..sections import Command

SHELLS = ("bash", "zsh", "fish")
PROGRAMS = ("dvae-eval", "dvae-train")


@click.command("completion", cls=Command)
@click.argument("shell", type=click.Choice(SHELLS))
@common_options
def command(shell: str) -> None:
    """Print the completion script for a shell.

    With the script, the shell completes the commands, options and file names of dvae-eval and dvae-train.

    \b
    Example:
      dvae-eval completion bash >> ~/.bashrc
      dvae-eval completion zsh >> ~/.zshrc
      dvae-eval completion fish > ~/.config/fish/completions/dvae.fish

    The script takes effect in shells that are started later.
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None  # one of the shells that click knows
    for program in PROGRAMS:
        # The script sets the variable with which the shell asks the program for its completions.
        click.echo(kind(command, {}, program, f"_{program.replace('-', '_').upper()}_COMPLETE").source())
