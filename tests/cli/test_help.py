"""The help of every command: options in sections, each with its default, also where a preset gives it."""

import dataclasses
import re

import click
import pytest

from dvae_cli import sections
from dvae_cli.main import COMMANDS, group
from dvae_cli.train import command as train
from dvae_core.training.presets import PRESETS

PROGRAMS = {"train": train} | {name: group.get_command(click.Context(group), name) for name in COMMANDS}
TITLES = set(sections.HEADINGS)


def help_of(name, *arguments):
    """Return a command's help on one line for each option, and its exit status."""
    with pytest.raises(click.exceptions.Exit) as left:
        PROGRAMS[name].make_context(f"dvae {name}", [*arguments, "--help"])
    return left.value.exit_code


def shown(capsys, name, *arguments):
    assert help_of(name, *arguments) == 0
    return " ".join(capsys.readouterr().out.split())


def options_of(name):
    context = click.Context(PROGRAMS[name])
    params = PROGRAMS[name].get_params(context)
    return [p for p in params if isinstance(p, click.Option) and not p.hidden and "--help" not in p.opts]


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_option_stands_in_one_section(name):
    context = click.Context(PROGRAMS[name])
    found = sections.sections(PROGRAMS[name], context)
    terms = [term for _, records in found for term, _ in records]
    names = [option.get_help_record(context)[0] for option in options_of(name)]
    assert sorted(terms) == sorted([*names, "--help"])
    assert [title for title, _ in found] == [title for title in sections.HEADINGS if title in dict(found)]
    assert found[-1][0] == sections.OTHER


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_option_has_been_forgotten(name):
    # A new option: name it in HEADINGS of cli/dvae_cli/sections.py.
    others = [p.name for p in options_of(name) if sections.section_of(PROGRAMS[name], p) == sections.OTHER]
    assert set(others) <= set(sections.HEADINGS[sections.OTHER])


def test_no_heading_names_an_option_that_is_gone():
    there = {f"{PROGRAMS[name].name}.{p.name}" for name in PROGRAMS for p in options_of(name)}
    short = {name.partition(".")[2] for name in there}
    named = {name for names in sections.HEADINGS.values() for name in names}
    assert named <= there | short | {"training"}


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_option_shows_its_default(name):
    context = click.Context(PROGRAMS[name])
    meanings = dict(record for _, found in sections.sections(PROGRAMS[name], context) for record in found)
    for option in options_of(name):
        term = option.get_help_record(context)[0]
        if not option.is_flag:
            meaning = meanings[term]
            assert re.search(r"default: |\[required\]|\[mnist-small: ", meaning), term


@pytest.mark.parametrize(
    ("arguments", "preset"),
    [
        ((), "mnist-small"),
        (("digits",), "digits-small"),
        (("bars-and-stripes-3x3", "--out", "x"), "bars-and-stripes-small"),
        (("digits", "--preset", "paper-omniglot"), "paper-omniglot"),
        (("--preset=ablation-linear-128",), "ablation-linear-128"),
        (("mine.npz",), "mnist-small"),
    ],
)
def test_the_help_of_training_shows_the_presets_settings(capsys, arguments, preset):
    text = shown(capsys, "train", *arguments)
    for part in (PRESETS[preset].model, PRESETS[preset].train):
        n_settings = len(dataclasses.fields(PRESETS[preset].model)) + len(
            dataclasses.fields(PRESETS[preset].train)
        )
        assert len(re.findall(rf"\[{preset}: ", text)) == n_settings
        for field in dataclasses.fields(part):
            value = getattr(part, field.name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                assert f"[{preset}: {value}]" in text
    widths = ",".join(map(str, PRESETS[preset].model.encoder_hidden))
    assert f"every posterior network. [{preset}: {widths}]" in text
    assert f"[{preset}: no-amp]" in text


def test_what_comes_after_help_counts_too(capsys):
    with pytest.raises(click.exceptions.Exit):
        train.make_context("dvae-train", ["--help", "--preset", "paper-mnist"])
    assert "[paper-mnist: 2000,2000]" in capsys.readouterr().out


def test_the_help_of_log_z_shows_the_papers_settings(capsys):
    plain, paper = shown(capsys, "logz"), shown(capsys, "logz", "--preset", "paper")
    assert "[default: reduced]" in plain
    assert "[paper: " not in plain
    for value in ("joint", "random", "0.5", "uniform"):
        assert f"[paper: {value}]" in paper
    assert "[default: reduced]" not in paper
    assert "[default: 32]" in paper
