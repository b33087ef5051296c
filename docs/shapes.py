"""Make the site print "float64, shape (n, 2)" as in the docstrings, although it is not a Python type."""

from __future__ import annotations

import re
from typing import Any

from griffe import Expr, ExprTuple, Extension, Module, Object

__all__ = ["Shapes"]


class Shapes(Extension):
    """Turn annotations of docstrings that were parsed as expressions back into text."""

    def on_package(self, *, pkg: Module, **_: Any) -> None:
        """Correct all docstrings of a package after it is loaded."""
        _correct(pkg)


def _correct(obj: Object) -> None:
    """Correct the annotations in the docstrings of an object and of its members."""
    for section in obj.docstring.parsed if obj.docstring else ():
        for item in section.value if isinstance(section.value, list) else ():
            if isinstance(getattr(item, "annotation", None), Expr):
                item.annotation = words(item.annotation)
    for member in obj.members.values():
        if isinstance(member, Object):
            _correct(member)


def words(annotation: Expr) -> Expr | str:
    """Return "float64, shape (n,)" for the tuple (float64, shape(n)), and any other annotation unchanged."""
    if not isinstance(annotation, ExprTuple) or "shape" not in str(annotation):
        return annotation
    text = ", ".join(map(str, annotation.elements))
    return re.sub(r"\bshape\(", "shape (", re.sub(r"\bshape\(([^,()]+)\)", r"shape (\1,)", text))
