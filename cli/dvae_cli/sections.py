"""The headings of the help: an option is under the same heading in every command."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import click

from .help_text import HelpContext
from .standard_input import named_errors

OTHER = "Other"
# Headings in their order, with the parameters below each; `command.parameter` is for that command alone.
HEADINGS: dict[str, tuple[str, ...]] = {
    "What to show": (
        *("kind", "labels", "columns", "order", "baseline", "with_later", "references", "commands"),
        *("digits", "with_errors", "caption", "label", "notes"),
    ),
    "What to run": ("benchmark.kind", "suite", "budget", "benchmark.n_seeds", "benchmark.seed"),
    "What to train": ("training", "vary", "seeds", "part", "dry_run"),
    "How to measure": ("sweep.log_z", "sweep.likelihood"),
    "What to measure": (
        *("data", "all_updates", "split", "limit", "as_trained", "log_z", "bits", "classes", "n", "best"),
        *("betas", "correlations", "basins", "n_worst"),
    ),
    "Images of a run": ("image_rows", "chains", "draws", "reconstructions"),
    "Method": (
        *(
            "methods",
            "estimators",
            "preset",
            "method",
            "path",
            "starts",
            "n_repeats",
            "sandwich",
            "against_exact",
            "seed",
            "n_samples",
        ),
        *("log_z_error", "n_simulated", "n_ais_chains", "n_ais_steps", "n_reference", "n_pilot"),
    ),
    "How long": ("precision", "time_limit", "n_sweeps", "burn_in"),
    "Sampler": ("n_replicates", "n_chains", "exchange_rate", "exchange", "energies", "reference"),
    "Reading the file": ("units", "rows", "beta", "evidence", "clamp", "graph", "update"),
    # For dvae-train.
    "Run": (
        *("dvae-train.run_directory", "dvae-train.preset", "config", "init"),
        *("resume", "end", "dvae-train.data"),
    ),
    "Binary units": (
        *("prior", "dvae-train.graph", "n_left", "n_right", "n_groups"),
        *("smoothing", "sharpness", "sharpness_growth", "sharpness_max"),
    ),
    "Continuous layers and networks": (
        *("n_layers", "n_continuous", "encoder_hidden", "prior_hidden", "n_sharing_groups", "decoder_hidden"),
    ),
    "Training": (
        *("epochs", "batch_size", "learning_rate", "learning_rate_decay", "gradient_clip", "n_importance"),
        *("ema_decay", "patience", "dvae-train.seed"),
    ),
    "Warm-up": ("warmup_strength", "warmup_epochs", "rbm_warmup_strength", "rbm_warmup_epochs"),
    "Negative phase": ("dvae-train.n_chains", "dvae-train.n_sweeps", "sampler", "n_rungs"),
    "Output": (
        *("out", "output", "force", "as_json", "format", "format_name", "bib", "csv", "plot", "width", "font"),
        *("trajectory", "logs"),
    ),
    "Compute": (
        *("device", "threads", "ll.precision", "n_workers", "workers", "memory", "scheduler", "amp", "compile"),
    ),
    OTHER: ("quiet", "debug", "list_presets", "list_datasets", "version"),
}
_HEADING_OF = {name: heading for heading, names in HEADINGS.items() for name in names}
_DEFAULT = re.compile(r"\[default: [^\]]*\]")

# Maps the raw values on the command line, by parameter, to the name and the settings of a preset.
PresetOf = Callable[[Mapping[str, Any]], tuple[str, Mapping[str, Any]]]


def section_of(command: click.Command, param: click.Parameter) -> str:
    """Return the heading of a parameter, `OTHER` if no heading lists it."""
    own = f"{command.name}.{param.name}"
    return _HEADING_OF.get(own) or _HEADING_OF.get(str(param.name), OTHER)


def sections(command: click.Command, context: click.Context) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the headings of a command's help, each with its options as (syntax, meaning)."""
    found: dict[str, list[tuple[str, str]]] = {heading: [] for heading in HEADINGS}
    preset, settings = command.preset(context) if isinstance(command, Command) else ("", {})
    for param in command.get_params(context):
        record = param.get_help_record(context)
        if record is not None and isinstance(param, click.Option):
            meaning = _with_default(param, record[1], preset, settings)
            found[section_of(command, param)].append((record[0], meaning))
    return [(heading, records) for heading, records in found.items() if records]


def _with_default(option: click.Option, meaning: str, preset: str, settings: Mapping[str, Any]) -> str:
    """Return the meaning of an option with its default, or with its value in a preset."""
    meaning = meaning.replace('[default: ""]', "[default: none]")
    if option.name in settings:
        value = f"[{preset}: {_as_typed(option, settings[option.name])}]"
        return _DEFAULT.sub(value, meaning) if _DEFAULT.search(meaning) else f"{meaning} {value}"
    is_plain_flag = option.is_flag and not option.secondary_opts
    if is_plain_flag or option.required or re.search(r"\bdefault: ", meaning):
        return meaning
    return f"{meaning} [default: none]"


def _as_typed(option: click.Option, value: Any) -> str:
    """Return the value of a setting as typed on the command line."""
    if isinstance(value, bool):
        return (option.opts if value else option.secondary_opts)[0].lstrip("-")
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return str(value) or "none"


class Command(click.Command):
    """A command whose help lists its options in sections, with their defaults.

    With `preset_of`, the help shows the settings of the preset that is given beside --help.
    """

    context_class = HelpContext

    def __init__(self, *args: Any, preset_of: PresetOf | None = None, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.preset_of = preset_of

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the raw command line for the help, which is printed before the options are parsed."""
        ctx.meta[__name__] = list(args)
        try:
            return super().parse_args(ctx, args)
        except BaseException:
            ctx.close()  # removes the temporary file with standard input
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; errors name standard input, not its temporary file."""
        with named_errors():
            return super().invoke(ctx)

    def preset(self, ctx: click.Context) -> tuple[str, Mapping[str, Any]]:
        """Return the name and the settings of the preset that the help shows."""
        if self.preset_of is None:
            return "", {}
        words, _, _ = self.make_parser(ctx).parse_args(list(ctx.meta.get(__name__, [])))
        return self.preset_of({name: value for name, value in words.items() if isinstance(value, str)})

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options in their sections."""
        for heading, records in sections(self, ctx):
            with formatter.section(heading):
                formatter.write_dl(records)
