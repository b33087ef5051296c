"""Lets the site print "float64, shape (n, 2)" as the docstrings have it, which is no Python type."""

from __future__ import annotations

import re
from typing import Any

from griffe import Expr, ExprTuple, Extension, Module, Object

__all__ = ["Shapes"]


class Shapes(Extension):
    """Turns annotations of docstrings that only look like expressions back into words."""

    def on_package(self, *, pkg: Module, **_: Any) -> None:
        """Go through all that a package has, once it is loaded."""
        _mend(pkg)


def _mend(obj: Object) -> None:
    """Mend the docstrings of an object and of its members."""
    for section in obj.docstring.parsed if obj.docstring else ():
        for item in section.value if isinstance(section.value, list) else ():
            if isinstance(getattr(item, "annotation", None), Expr):
                item.annotation = words(item.annotation)
    for member in obj.members.values():
        if isinstance(member, Object):
            _mend(member)


def words(annotation: Expr) -> Expr | str:
    """Return "float64, shape (n,)" for the tuple (float64, shape(n)), anything else as it is."""
    if not isinstance(annotation, ExprTuple) or "shape" not in str(annotation):
        return annotation
    text = ", ".join(map(str, annotation.elements))
    return re.sub(r"\bshape\(", "shape (", re.sub(r"\bshape\(([^,()]+)\)", r"shape (\1,)", text))
