"""Find words that a reader from outside stumbles over: `python tests/plain_english.py [FILE or FOLDER ...]`.

Prints one line per finding (file, line, phrase, what to write instead). The exit status is 1 if there are any.
`INSTEAD` is the only list of the words; CONTRIBUTING.md shows it.
"""

import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# What is refused, each form by itself, and what to write instead.
INSTEAD = {
    "anew, afresh": "again; new",
    "alike": "equally; in the same way; both A and B",
    "so many": "N; this number of; at most N",
    "go on, goes on, gone on, going on, went on": "continue; run the same command again to continue",
    "tell apart, tells apart, telling apart, told apart": "distinguish; report separately",
    "hold against, held against, hold it against, hold them against, holds them against": "compare with",
    "want of": "lack of; because of too few; without",
    "just so": "in the same way",
    "mend, mends, mended, mending": "fix; repair",
    "hush, hushed": "silence; suppress",
    "betray, betrays, betrayed": "show; reveal",
    "by heart": "memorised",
    "at leisure": "rarely; when convenient",
    "nobody": "no one; the subject by its name",
    "whoever": "any caller that; the subject by its name",
    "whatever it is": "of any kind",
    "foretell, foretells, foretold, foretelling": "predict",
    "heed, heeds, heeded": "respect; follow",
    "thereof, wherein, whereof, henceforth, hence-forth": "of it; in which; from now on",
    "amiss": "wrong",
    "in the place of": "instead of; in place of",
    "stand on, stands on, standing on, stood on": "use; rest on; depend on",
    "be told, been told, is told, are told, was told, were told": "receives; is given; what the program prints",
    "tell of, tells of, told of": "report; mention",
    "worth a word, without a word, a word of warning": "worth a note; silently; a warning",
    "speak for, speaks for, speak against, speaks against": "support; a problem with",
    "looked at": "checked; examined; evaluated",
    "of its own, of one's own": "its own; a separate",
    "nats an image, sweeps a step": "per, as in 'nats per image'",
}
AMOUNT = r"(?:nats|samples|sweeps|steps|rungs|bits|bytes|[kMGT]i?B|(?:CPU )?(?:seconds|minutes|hours)|CPU s)"
OF_EACH = (
    r"(?:image|pixel|step|epoch|draw|sample|sweep|seed|minibatch|batch|replica|replicate|chain|process|worker|core|rung|"
    r"schedule|side|group|unit|page|sandwich|second(?! time)|minute|hour|day)"
)
BLANK = r"(?:[ \t]+|[ \t]*\n[ \t]*(?:#[ \t]*)?)"


def _pattern(phrases: str) -> re.Pattern[str]:
    forms = [re.escape(form) for form in phrases.split(", ")]
    if phrases.startswith("nats an image"):
        forms = [rf"{AMOUNT}\ an?\ {OF_EACH}"]
    return re.compile(rf"(?<![\w-])(?:{'|'.join(forms)})(?![\w-])".replace(r"\ ", BLANK), re.IGNORECASE)


PATTERNS = {phrases: _pattern(phrases) for phrases in INSTEAD}

# Folders and files that are read, by the part of the project that they belong to.
PARTS = {
    "dvae_core": ("dvae_core",),
    "dvae_eval": ("dvae_eval",),
    "reports": ("reports",),
    "cli": ("cli",),
    "docs": ("docs", "mkdocs.yml", "CONTRIBUTING.md", "CHANGELOG.md"),
    "readme": ("README.md",),
    "scripts": ("reproduce", "benchmarks", "examples", "Makefile", "pyproject.toml"),
}
# Suffixes of what is read in folders.
TEXTS = {".py", ".md", ".sh", ".toml", ".yml", ".j2", ".css", ".ipynb"}
# Pages that are made from texts which are read themselves.
MADE = {ROOT / "docs" / "results.md"}

HIDDEN = "\0"  # stands for a character of code, so that no phrase reaches across it
CODE_BLOCK = re.compile(r"^[ ]*```[ ]*(?:python|py|sh|bash)\b.*?^[ ]*```[ ]*$", re.MULTILINE | re.DOTALL)
CODE_BEFORE_COMMENT = re.compile(r"^(?!#\s).*?(?=\s#\s|$)", re.MULTILINE)
INLINE_CODE = re.compile(r"(?<!`)(`{1,2})(?!`)[^`\n]+\1(?!`)")
WORD_LIST = re.compile(r"<!-- refused words -->.*?<!-- end of refused words -->", re.DOTALL)


@dataclass(frozen=True)
class Finding:
    """A refused phrase, where it is, and what to write instead."""

    path: Path
    line: int
    phrase: str
    instead: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.phrase!r}: write {self.instead}"


def findings(path: Path, text: str) -> list[Finding]:
    """Return every refused phrase of a text, in the order of its lines; the name in `path` says how it is read."""
    prose = _prose(path, text)
    found = [
        Finding(path, prose.count("\n", 0, match.start()) + 1, " ".join(match[0].split()), INSTEAD[phrases])
        for phrases, pattern in PATTERNS.items()
        for match in pattern.finditer(prose)
    ]
    return sorted(found, key=lambda finding: finding.line)


def _prose(path: Path, text: str) -> str:
    """Return a text of the same lines in which code is hidden."""
    if path.suffix == ".py":
        text = _comments_and_literals(text)
    elif path.suffix == ".md":
        text = WORD_LIST.sub(_hide, text)
        text = CODE_BLOCK.sub(lambda block: CODE_BEFORE_COMMENT.sub(_hide, block[0]), text)
    if path.name == "CHANGELOG.md":  # what is released stays as it is
        text = "\n## ".join(text.split("\n## ")[:2])
    return INLINE_CODE.sub(_hide, text)


def _hide(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", HIDDEN, match[0])


def _comments_and_literals(source: str) -> str:
    """Keep the comments and string literals of a module; their quotes and marks become blanks."""
    rows = [[HIDDEN if character.strip() else " " for character in row] for row in source.split("\n")]
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if tokenize.tok_name[token.type] in {"STRING", "FSTRING_MIDDLE", "COMMENT"}:
            first, column = token.start[0] - 1, token.start[1]
            for row, part in enumerate(_literal(token).split("\n")):
                start = 0 if row else column
                rows[first + row][start : start + len(part)] = part
    return "\n".join("".join(row) for row in rows)


def _literal(token: tokenize.TokenInfo) -> str:
    """Return a literal or comment in the same length: blanks for its marks, an f-string's fields hidden."""
    text = token.string
    if token.type == tokenize.COMMENT:
        return re.sub("#", " ", text)
    opening = re.match(r"""([a-zA-Z]*)(\"{3}|'{3}|"|')""", text)
    if token.type != tokenize.STRING or opening is None:
        return text  # from Python 3.12 on, the parts of an f-string are tokens
    prefix, mark = opening.groups()
    text = " " * len(opening[0]) + text[len(opening[0]) : -len(mark)] + " " * len(mark)
    return re.sub(r"\{[^{}]*\}", _hide, text) if "f" in prefix.lower() else text


def text_files(names: Iterable[str], root: Path = ROOT) -> Iterator[Path]:
    """Yield the files of files and folders below `root`; of folders the texts, without hidden and built ones."""
    for name in names:
        path = root / name
        if path.is_dir():
            texts = (found for found in sorted(path.rglob("*")) if found.suffix in TEXTS and found not in MADE)
            yield from (found for found in texts if not _is_built(found.relative_to(path)))
        else:
            yield path


def _is_built(path: Path) -> bool:
    return any(name.startswith(".") or name == "build" or name.endswith(".egg-info") for name in path.parts[:-1])


def word_list() -> str:
    """Return the list as the table of CONTRIBUTING.md."""
    rows = "\n".join(f"| {phrases} | {instead} |" for phrases, instead in INSTEAD.items())
    return f"| not | but |\n| --- | --- |\n{rows}\n"


def main(names: list[str]) -> int:
    """Print the findings in files and folders, of all parts if none is named, and return the exit status."""
    found = False
    for path in text_files(names or [name for part in PARTS.values() for name in part], Path() if names else ROOT):
        for finding in findings(path, path.read_text(encoding="utf-8")):
            found = True
            print(finding)
    return int(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
