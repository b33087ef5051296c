"""Sets of runs against one setting: the lines of Figures 6 and 9.

A line connects only runs that differ in nothing else.  Settings of two numbers are shown by their cost: sweeps of
parallel tempering are summed over all rungs.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dvae_core.config import ModelConfig, RunConfig, option_name
from dvae_core.errors import ResultError

from ..figures.sweeps import SweepLine, SweepPoint
from .groups import Group

GIBBS = "block Gibbs"


@dataclass(frozen=True, slots=True)
class SweepAxis:
    """A setting to compare runs by.

    Attributes
    ----------
    label : str
        Label of the axis.
    fields : tuple of str
        Settings in which the runs may differ.
    value : callable
        Function from a run's settings to the number on the axis.
    lines : tuple of str
        Further settings in which the runs may differ, with one line per value.
    """

    label: str
    fields: tuple[str, ...]
    value: Callable[[RunConfig], float]
    lines: tuple[str, ...] = ()


def _n_rungs(run: RunConfig) -> int:
    """Return the number of chains per chain that samples the prior."""
    return run.train.n_rungs if run.train.sampler == "tempering" else 1


def _sampler(run: RunConfig) -> str:
    """Return the sampler of the negative phase, for a legend."""
    return f"parallel tempering, {_n_rungs(run)} rungs" if run.train.sampler == "tempering" else GIBBS


AXES = {
    "sweeps": SweepAxis(
        "block Gibbs sweeps per minibatch",
        ("n_sweeps",),
        lambda run: run.train.n_sweeps * _n_rungs(run),
        ("sampler", "n_rungs"),
    ),
    "rbm-size": SweepAxis("RBM units", ("n_left", "n_right"), lambda run: run.model.n_left + run.model.n_right),
    "posterior-layers": SweepAxis("layers of the RBM's posterior", ("n_groups",), lambda run: run.model.n_groups),
}


def sweep_lines(groups: Sequence[Group], axis: SweepAxis) -> list[SweepLine]:
    """Return the log-likelihoods of groups of runs against one setting (Figure 6), block Gibbs sampling first.

    Raises
    ------
    ResultError
        If the groups differ in another setting, or not at all; the message names it.
    """
    configs = _configs(groups)
    _refuse_other_differences(groups, axis.fields, axis.lines)
    points: dict[str, list[SweepPoint]] = {}
    found = zip(configs, _points(groups, [axis.value(config) for config in configs]), strict=True)
    for config, point in sorted(found, key=lambda pair: _n_rungs(pair[0])):
        points.setdefault(_sampler(config), []).append(point)
    _refuse_a_single_value([point.x for line in points.values() for point in line], axis.fields)
    return [
        SweepLine("" if len(points) == 1 and name == GIBBS else name, line, style, is_dashed=name != GIBBS)
        for style, (name, line) in enumerate(points.items())
    ]


def width_panels(groups: Sequence[Group]) -> list[tuple[str, list[SweepLine]]]:
    """Return the lines of Figure 9: (a) against the width of the prior networks, (b) of the posterior networks.

    One line per number of hidden layers, dashed if the decoder has hidden layers too.  In each panel, the other
    networks have the widths that most of the runs have.

    Raises
    ------
    ResultError
        If the groups differ in anything but hidden layers, or neither width has two values.
    """
    configs = _configs(groups)
    fields = ("prior_hidden", "encoder_hidden", "decoder_hidden")
    _refuse_other_differences(groups, fields)
    panels = []
    for field, other in (fields[:2], fields[1::-1]):
        common = Counter(getattr(config.model, other) for config in configs).most_common(1)[0][0]
        members = [
            (group, config.model)
            for group, config in zip(groups, configs, strict=True)
            if getattr(config.model, other) == common
        ]
        if len({getattr(model, field) for _, model in members}) > 1:
            panels.append((field, _width_lines(members, field)))
    if not panels:
        raise ResultError(f"all runs have the same widths; give runs that differ in {_names(fields[:2])}")
    return panels


def _width_lines(members: Sequence[tuple[Group, ModelConfig]], field: str) -> list[SweepLine]:
    """Return a line per number of hidden layers and of the decoder's hidden layers."""
    lines: dict[tuple[int, int], list[SweepPoint]] = {}
    points = _points([group for group, _ in members], [_width(group, model, field) for group, model in members])
    for (_, model), point in zip(members, points, strict=True):
        lines.setdefault((len(getattr(model, field)), len(model.decoder_hidden)), []).append(point)
    return [
        SweepLine(_depths(depth, decoder), points, depth - 1, decoder > 0)
        for (depth, decoder), points in sorted(lines.items())
    ]


def _depths(depth: int, decoder: int) -> str:
    """Return the label of a line: the number of hidden layers, and of the decoder's if it has any."""
    layers = "1 layer" if depth == 1 else f"{depth} layers"
    return f"{layers}, decoder {decoder}" if decoder else layers


def _width(group: Group, model: ModelConfig, field: str) -> int:
    """Return the common width of a network's hidden layers; ResultError if they differ."""
    hidden: tuple[int, ...] = getattr(model, field)
    if len(set(hidden)) != 1:
        raise ResultError(f"{group.name}: {option_name(field)} {hidden} is not a single width; omit the run")
    return hidden[0]


def _points(groups: Sequence[Group], xs: Sequence[float]) -> list[SweepPoint]:
    """Return the groups' means with their errors for comparison."""
    return [
        SweepPoint(x, group.log_likelihood, group.error or 0.0, group.trustworthy, len(group.runs))
        for x, group in zip(xs, groups, strict=True)
    ]


def _configs(groups: Sequence[Group]) -> list[RunConfig]:
    """Return the groups' settings; ResultError if a group's are unknown."""
    unknown = [group.name for group in groups if group.config is None]
    if unknown:
        raise ResultError(f"{', '.join(unknown)}: the settings of its training are unknown; give run directories")
    return [group.config for group in groups if group.config is not None]


def _refuse_other_differences(
    groups: Sequence[Group], fields: tuple[str, ...], lines: tuple[str, ...] = ()
) -> None:
    """Raise ResultError if groups differ in settings other than `fields` and `lines`."""
    tables = [_comparable(group, (*fields, *lines)) for group in groups]
    for name in tables[0] if tables else ():
        values = {group.name: table.get(name) for group, table in zip(groups, tables, strict=True)}
        if len(set(values.values())) > 1:
            (a, one), (b, two) = _two_that_differ(values)
            raise ResultError(
                f"the runs differ in more than {_names(fields)}: {name} is {one} in {a} and {two} in {b}; "
                "give runs that agree in it"
            )


def _comparable(group: Group, fields: tuple[str, ...]) -> dict[str, str]:
    """Return the settings that must be equal in all groups, by name, as texts."""
    config = group.config.to_dict() if group.config else {}
    table: dict[str, Any] = {**config.get("model", {}), **config.get("train", {})}
    named = {option_name(key): value for key, value in table.items() if key not in (*fields, "seed")}
    named |= {"the data set": group.dataset, "the split": group.split}
    named |= {"the number of images": group.n_images, "the number of samples": group.results[0].n_samples}
    return {key: json.dumps(value) for key, value in named.items()}


def _two_that_differ(values: dict[str, str | None]) -> tuple[tuple[str, Any], tuple[str, Any]]:
    """Return the first group with its value, and the first group with another value."""
    first = next(iter(values.items()))
    return first, next(item for item in values.items() if item[1] != first[1])


def _refuse_a_single_value(values: Sequence[float], fields: tuple[str, ...]) -> None:
    """Raise ResultError if all values are equal."""
    if len(set(values)) < 2:
        raise ResultError(f"all runs have the same {_names(fields)}; give runs that differ in it")


def _names(fields: Sequence[str]) -> str:
    """Return the names of the settings' options."""
    return " and ".join(map(option_name, fields))
