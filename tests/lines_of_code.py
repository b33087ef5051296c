"""How many lines of code a file has, without blank lines, comments and docstrings."""

import ast
import io
import tokenize
from pathlib import Path

NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def lines_of_code(path: Path) -> int:
    """Return the number of lines of code of a Python file."""
    source = path.read_text(encoding="utf-8")
    tokens = [
        token for token in tokenize.generate_tokens(io.StringIO(source).readline) if token.type not in NO_CODE
    ]
    code = {line for token in tokens for line in range(token.start[0], token.end[0] + 1)}
    return len(code - _docstrings(source))


def _docstrings(source: str) -> set[int]:
    """Return the numbers of the lines that docstrings take."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, documented) and ast.get_docstring(node)
    ]
    return {line for node in nodes for line in range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)}
