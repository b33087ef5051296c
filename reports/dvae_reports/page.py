"""The templates of the pages, in `templates/`."""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from dvae_core import text


@cache
def page_template(name: str) -> Template:
    """Return a template with autoescaping, in which an undefined name is an error."""
    environment = Environment(
        loader=PackageLoader("dvae_reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    functions = ("count", "decimals", "duration", "error_text", "estimate", "fixed", "short", "signed")
    environment.filters.update({name: getattr(text, name) for name in functions})
    return environment.get_template(name)
