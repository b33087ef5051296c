"""The values of a file's units, from its format, its texts, an option, or by convention."""

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
    """The units of a machine, collected while its file is read.

    Parameters
    ----------
    declared : str or None
        Units that the format determines, `01` or `pm1`.
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
        """Whether the units were assumed by convention."""
        return self.declared is None and self.wanted == "auto"

    def see(self, texts: Mapping[str, Any]) -> tuple[list[str], list[str]]:
        """Interpret the texts of a file that describe its units.

        Returns
        -------
        list of str, list of str
            Names of the texts that were understood, and the others, each as `name = value`.

        Raises
        ------
        DataError
            If the texts describe units of another kind, contradict one another, or contradict the option.
        """
        understood, unread = [], []
        for name, text in texts.items():
            if not isinstance(text, str):
                continue
            word = re.sub(r"[\s_\-]+(?=[a-z])", "", text.strip().lower())
            if OTHER.fullmatch(word):
                raise DataError(
                    f"has {name} = {to_utf8(text)[:LONGEST]!r}: an unsupported kind of model; give one with units "
                    "0 and 1 or -1 and +1"
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
                    + ("leave --units out" if self.declared is None else "save units of one kind")
                )
            self.declared = said
            understood.append(name)
        return understood, unread
