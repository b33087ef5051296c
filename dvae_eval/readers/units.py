"""Which values the units of a file have: by its format, what it says of them, an option, or convention."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dvae_core.errors import DataError
from dvae_core.io.files import to_utf8

BINARY = re.compile(
    r"binary|bernoulli|logistic|sigmoid|boolean|bool|01|0/1|\{?0,1\}?|bb(rbm)?|bernoullibernoulli|brbm"
)
SPIN = re.compile(r"spins?|ising|pm1|[±+\-/,{}1]*-1[±+\-/,{}1]*|ii(rbm)?|isingising|tanh")
NEUTRAL = re.compile(r"(restricted)?boltzmannmachine|r?bm|standard|default|plain")
OTHER = re.compile(
    r".*(gauss|potts|softmax|relu|continuous|categorical|poisson|multinomial|linear|normal|exponential|conditional"
    r"|crbm|gbrbm|bgrbm|igrbm|pbrbm|grbm|dbm|dbn|deep|autoencoder|ternary|real).*"
)
LONGEST = 60


class Units:
    """The units of a machine, as they become known.

    Parameters
    ----------
    declared : str or None
        What the format itself says, `01` or `pm1`.
    wanted : str
        The option: `auto`, `01` or `pm1`.
    """

    def __init__(self, declared: str | None, wanted: str) -> None:
        self.declared, self.wanted = declared, wanted

    @property
    def found(self) -> str:
        """`01` or `pm1`."""
        return self.declared or (self.wanted if self.wanted != "auto" else "01")

    @property
    def is_assumed(self) -> bool:
        """Whether it was assumed, not given."""
        return self.declared is None and self.wanted == "auto"

    def see(self, texts: Mapping[str, Any]) -> tuple[list[str], list[str]]:
        """Take in what a file says of its units in words.

        Returns
        -------
        list of str, list of str
            Names of what was understood, and of texts that were not, with their values.

        Raises
        ------
        DataError
            If it says that they are of another kind, of two kinds, or not what was asked for.
        """
        understood, unread = [], []
        for name, text in texts.items():
            if not isinstance(text, str):
                continue
            word = re.sub(r"[\s_\-]+(?=[a-z])", "", text.strip().lower())
            if OTHER.fullmatch(word):
                raise DataError(
                    f"has {name} = {to_utf8(text)[:LONGEST]!r}: another model than this computes; only units of "
                    "two states, 0 and 1 or -1 and +1, can be read"
                )
            said = "01" if BINARY.fullmatch(word) else "pm1" if SPIN.fullmatch(word) else None
            if said is None and NEUTRAL.fullmatch(word):
                understood.append(name)
                continue
            if said is None:
                unread.append(f"{name} = {text[:LONGEST]!r}")
                continue
            if said != self.declared and (self.declared or self.wanted not in ("auto", said)):
                raise DataError(
                    f"has {name} = {text[:LONGEST]!r}, which is not {self.declared or self.wanted}; "
                    + ("leave --units out" if self.declared is None else "give units of one kind")
                )
            self.declared = said
            understood.append(name)
        return understood, unread
