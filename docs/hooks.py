"""Hooks of the site's build: outputs of commands, references of the commands and the library, equations as MathML.

Everything is made from the code when the site is built, so that it cannot become outdated.
"""

from __future__ import annotations

import html
import os
import posixpath
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import click
from latex2mathml.converter import convert
from library_reference import REFERENCE, referred_to
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from notebook_page import with_notebooks
from outputs import HIDDEN, run_pages, with_outputs
from run_page import CHOICE

from dvae_cli.sections import sections
from dvae_reports.names import FIGURES

COMMANDS = "<!-- the commands -->"
CAPTION = re.compile(r"<!-- the figure (\S+) -->")
# The folder with the outputs of each page, by its address; filled again in every build.
folders: dict[str, Path] = {}
# From where the theme loads the script that its search needs in pages opened from files.
SHIM = "https://unpkg.com/iframe-worker/shim"
EQUATION = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.S)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Run the code of all pages, and add the pictures and reports that it saved to the site."""
    pages = {file.src_uri: file.content_string for file in files.documentation_pages()}
    check_gallery(pages.get("gallery.md", ""))
    folders.clear()
    if os.environ.get("DVAE_DOCS_OUTPUT") != "off":  # as the tests build it, which run every page anyway
        folders.update(run_pages(pages))
    for page, folder in folders.items():
        for path in sorted(folder.glob("*[!n]")):
            files.append(File.generated(config, f"{address_of(page)}/{path.name}", abs_src_path=str(path)))
    return files


def address_of(page: str) -> str:
    """Return the folder on the site with the pictures and reports that a page's commands saved."""
    return "outputs/" + page.removesuffix(".md")


def check_gallery(text: str) -> None:
    """Raise PluginError unless the gallery has a section for every figure."""
    shown = set(CAPTION.findall(text)) & set(re.findall(r"^dvae-eval figure (\S+)", text, re.M))
    if missing := sorted(set(FIGURES) - shown):
        raise PluginError(
            f"gallery.md: no section for {', '.join(missing)}; give each its caption and its command"
        )


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Add outputs below the blocks that were run, and notebooks and generated references at their comments."""
    here = page.file.src_uri
    markdown, pictures = with_notebooks(markdown)
    for name, content in pictures.items():
        files.append(File.generated(config, f"{posixpath.dirname(here)}/{name}", content=content))
    if here in folders:
        base = posixpath.relpath(address_of(here), posixpath.dirname(here))
        markdown = with_outputs(markdown, folders[here], base)
    markdown = CHOICE.sub("", markdown.replace(f"{HIDDEN}\n", ""))
    if COMMANDS in markdown:
        markdown = markdown.replace(COMMANDS, "\n".join(command_reference()))
    markdown = CAPTION.sub(lambda found: sentence(FIGURES[found[1]]), markdown)
    return REFERENCE.sub(lambda found: "\n".join(referred_to(found[1], found[2])), markdown)


def sentence(text: str) -> str:
    """Return a caption as a sentence."""
    return f"{text[0].upper()}{text[1:]}."


def on_page_content(content: str, **_: Any) -> str:
    """Turn equations into MathML, which browsers show without scripts, and let keys scroll wide blocks."""
    content = EQUATION.sub(lambda found: mathml(html.unescape(found[3]), found[2] == "["), content)
    return content.replace("<pre><", '<pre tabindex="0"><')


def on_post_page(output: str, page: Page, **_: Any) -> str:
    """Keep a single landmark for the contents, and let the search work without the network.

    The theme makes every level of the contents a landmark, and on a reference page their names would repeat.
    """
    output = re.sub(r'<nav class="md-nav" aria-label="[^"]*">', '<nav class="md-nav" role="presentation">', output)
    return output.replace(SHIM, posixpath.relpath("scripts/iframe-worker.js", posixpath.dirname(page.url)))


def on_post_template(output_content: str, **_: Any) -> str:
    """Do the same for the page that is shown for a missing address."""
    return output_content.replace(SHIM, "scripts/iframe-worker.js")


def mathml(latex: str, display: bool) -> str:
    """Return an equation as MathML; raise ValueError for an unknown command."""
    made = convert(latex.strip(), display="block" if display else "inline")
    # A thin space between the name of a function and its argument.
    made = re.sub(r"<mi>(log|exp)</mi>(?!<mo|<mrow><mo)", r"<mi>\1</mi><mspace width='0.17em'/>", made)
    if "\\" in html.unescape(made):
        raise ValueError(f"equation not understood: {latex}")
    return f'<div class="equation" tabindex="0">{made}</div>' if display else made


# --- the commands ---------------------------------------------------------------------------------------------


def programs() -> Iterator[tuple[str, click.Command]]:
    """Yield every command with the words of its call."""
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
    """Yield a help text as Markdown: paragraphs, and as code the parts that click does not wrap."""
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
    """Return text as Markdown in which every character is literal."""
    return re.sub(r"([\\`*_<>|#$])", r"\\\1", text)
