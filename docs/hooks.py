"""What the site makes of its pages: the references of commands and library, and equations as MathML.

All of it is made from the code when the site is built, so none of it can fall behind.
"""

from __future__ import annotations

import ast
import html
import posixpath
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import click
from latex2mathml.converter import convert
from mkdocs.structure.files import File
from notebook_page import with_notebooks

from dvae_cli.sections import sections

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"dvae_core": ROOT, "dvae_eval": ROOT, "dvae_reports": ROOT / "reports", "dvae_cli": ROOT / "cli"}
COMMANDS = "<!-- the commands -->"
INTERFACE = re.compile(r"<!-- the interface of (\w+) -->")
MODULES = re.compile(r"<!-- the modules of (\w+) -->")
EQUATION = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.S)


def on_page_markdown(markdown: str, **site: Any) -> str:
    """Put the generated references where the pages ask for them, and notebooks with what they drew."""
    markdown, pictures = with_notebooks(markdown)
    for name, content in pictures.items():
        place = posixpath.dirname(site["page"].file.src_uri)
        site["files"].append(File.generated(site["config"], f"{place}/{name}", content=content))
    if COMMANDS in markdown:
        markdown = markdown.replace(COMMANDS, "\n".join(command_reference()))
    markdown = INTERFACE.sub(lambda found: "\n".join(interface(found[1])), markdown)
    return MODULES.sub(lambda found: "\n\n".join(f"::: {name}" for name in modules(found[1])), markdown)


def on_page_content(content: str, **_: Any) -> str:
    """Turn equations into MathML, which browsers show without scripts, and let keys scroll what is wide."""
    content = EQUATION.sub(lambda found: mathml(html.unescape(found[3]), found[2] == "["), content)
    return content.replace("<pre><", '<pre tabindex="0"><')


def on_post_page(output: str, **_: Any) -> str:
    """Leave the contents one landmark: the theme makes one of every level, and on a reference names recur."""
    return re.sub(r'<nav class="md-nav" aria-label="[^"]*">', '<nav class="md-nav" role="presentation">', output)


def mathml(latex: str, display: bool) -> str:
    """Return an equation as MathML; ValueError for a command that is not known."""
    made = convert(latex.strip(), display="block" if display else "inline")
    # A function's name stands apart from what it is applied to.
    made = re.sub(r"<mi>(log|exp)</mi>(?!<mo|<mrow><mo)", r"<mi>\1</mi><mspace width='0.17em'/>", made)
    if "\\" in html.unescape(made):
        raise ValueError(f"equation not understood: {latex}")
    return f'<div class="equation" tabindex="0">{made}</div>' if display else made


# --- the commands ---------------------------------------------------------------------------------------------


def programs() -> Iterator[tuple[str, click.Command]]:
    """Yield every command with the words that call it."""
    yield "dvae-train", import_module("dvae_cli.train").command
    group = import_module("dvae_cli.main").group
    yield "dvae-eval", group
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None  # it was just listed
        yield f"dvae-eval {name}", command


def command_reference() -> Iterator[str]:
    """Yield the lines of a page with a section for every command."""
    for name, command in programs():
        yield from command_section(name, command)


def command_section(name: str, command: click.Command) -> Iterator[str]:
    """Yield a command's section: usage, description with its example, arguments and options."""
    context = click.Context(command, info_name=name)
    usage = " ".join(command.collect_usage_pieces(context))
    yield from (f"## `{name}`", "", "```text", f"{name} {usage}".rstrip(), "```", "")
    yield from description(command.help or "")
    for heading, options in sections(command, context):
        yield from (f"**{heading}**", "")
        for option, meaning in options:
            yield from (f"`{option}`", f":   {literal(meaning)}", "")
    if command.epilog:
        yield from description(command.epilog)


def description(text: str) -> Iterator[str]:
    """Yield a help text as Markdown: paragraphs, and as code what click is told to leave alone."""
    for paragraph in re.split(r"\n\s*\n", text.replace("\r", "")):
        lines = [line.strip() for line in paragraph.strip().splitlines()]
        if not lines:
            continue
        if lines[0] == "\b":
            title, *rest = lines[1:] if lines[1].endswith(":") else ["", *lines[1:]]
            yield from ([title, ""] if title else [])
            yield from ("```text", *rest, "```", "")
        else:
            yield from (literal(" ".join(lines)), "")


def literal(text: str) -> str:
    """Return words as Markdown that says just them."""
    return re.sub(r"([\\`*_<>|#$])", r"\\\1", text)


# --- the library ----------------------------------------------------------------------------------------------


def interface(package: str) -> Iterator[str]:
    """Yield the lines of a table of the names that a package offers, each linked to its description."""
    offered = import_module(package)
    yield from ("| name | what it is |", "| --- | --- |")
    for name in sorted(set(offered.__all__) - {"__version__"}, key=str.casefold):
        value = getattr(offered, name)
        summary = (value.__doc__ or "").strip().partition("\n")[0]
        yield f"| [`{name}`][{value.__module__}.{value.__qualname__}] | {summary.replace('|', chr(92) + '|')} |"


def modules(package: str) -> list[str]:
    """Return what a package's page describes: its modules that offer something, in alphabetical order.

    Of an `__init__` these are its own functions and classes alone; what it only hands on is described where it is.
    """
    folder = PACKAGES[package] / package
    found: list[str] = []
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(PACKAGES[package]).with_suffix("").parts
        if path.name == "__init__.py":
            found += [".".join((*parts[:-1], name)) for name in own_names(path)]
        elif public_names(path):
            found.append(".".join(parts))
    return found


def own_names(path: Path) -> list[str]:
    """Return the public functions and classes that a module defines itself."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    defined = [node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return [name for name in defined if name in public_names(path)]


def public_names(path: Path) -> list[str]:
    """Return what a module offers, read without importing it: its `__all__`, else all that has no underscore."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for node in body:
        if isinstance(node, ast.Assign) and [getattr(t, "id", "") for t in node.targets] == ["__all__"]:
            return list(ast.literal_eval(node.value))
    return [n.name for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef) and not n.name.startswith("_")]
