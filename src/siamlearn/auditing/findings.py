"""What an audit gives back: findings, worst first, and what was looked at."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, final

__all__ = ["Audit", "Finding", "Severity", "some"]

EXAMPLES = 10  # kept in a finding
SHOWN = 4  # of these, in a terminal
WIDTH = 100  # letters in a line


@final
class Severity(StrEnum):
    """How much a finding matters.

    Attributes:
        ERROR: the numbers are wrong, or say nothing about new people.
        WARNING: the numbers are probably flattered; look before you quote them.
        NOTE: it may be meant; the reader of the numbers should know it.

    Example:
        >>> [str(severity) for severity in Severity]
        ['error', 'warning', 'note']
    """

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@final
@dataclass(frozen=True)
class Finding:
    """One thing that an audit found.

    Args:
        kind: what kind of thing, such as "self-pairs": the same in every version.
        severity: how much it matters.
        where: in which of the parts, such as ("train", "test").
        what: what is the matter, in a sentence.
        count: how many people, pictures or pairs, as ``what`` says.
        examples: some of them by name.
        advice: what to do about it.

    Example:
        >>> finding = Finding("self-pairs", Severity.ERROR, ("test",), "…", 1, ("s1/1",), "…")
        >>> finding.severity, finding.where
        (<Severity.ERROR: 'error'>, ('test',))
    """

    kind: str
    severity: Severity
    where: tuple[str, ...]
    what: str
    count: int
    examples: tuple[str, ...]
    advice: str

    def __str__(self) -> str:
        head = f"{self.severity.upper():8} {self.kind} ({', '.join(self.where)})"
        shown = ", ".join(self.examples[:SHOWN])
        more = ", …" if self.count > SHOWN and len(self.examples) >= SHOWN else ""
        what = f"{self.what}: {shown}{more}" if shown else self.what
        return "\n".join([head, *_indented(what), *_indented(self.advice, "→ ")])


@final
@dataclass(frozen=True)
class Audit:
    """What was found, worst first, and what was looked at. ``print`` it.

    Iterating gives the findings.

    Args:
        findings: what was found.
        checked: what was looked at.
        unchecked: what could not be looked at, and why.

    Example:
        >>> print(Audit((), ("names of test",), ("scores: no embeddings",)))
        nothing found
        <BLANKLINE>
        checked: names of test
        not checked: scores: no embeddings
    """

    findings: tuple[Finding, ...]
    checked: tuple[str, ...]
    unchecked: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    @property
    def clean(self) -> bool:
        """Whether there is neither an error nor a warning; there may be notes.

        Example:
            >>> Audit((), ()).clean
            True
        """
        return all(finding.severity is Severity.NOTE for finding in self.findings)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of the findings, each once, worst first.

        Example:
            >>> Audit((), ()).kinds
            ()
        """
        return tuple(dict.fromkeys(finding.kind for finding in self.findings))

    def __str__(self) -> str:
        counts = [
            (sum(finding.severity is severity for finding in self.findings), severity)
            for severity in Severity
        ]
        head = ", ".join(f"{count} {word}{'s' * (count > 1)}" for count, word in counts if count)
        blocks = [head or "nothing found", *map(str, self.findings)]
        looked = [
            line
            for what, names in (("checked", self.checked), ("not checked", self.unchecked))
            if names
            for line in textwrap.wrap(
                f"{what}: {'; '.join(names)}", WIDTH, subsequent_indent="  ", break_on_hyphens=False
            )
        ]
        return "\n\n".join([*blocks, *(["\n".join(looked)] if looked else [])])

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, lists and dictionaries, ready for JSON.

        Example:
            >>> Audit((), ("names of test",)).to_dict()
            {'findings': [], 'checked': ['names of test'], 'unchecked': []}
        """
        return {
            "findings": [
                {
                    **asdict(finding),
                    "severity": str(finding.severity),
                    "where": list(finding.where),
                    "examples": list(finding.examples),
                }
                for finding in self.findings
            ],
            "checked": list(self.checked),
            "unchecked": list(self.unchecked),
        }


def some(names: Sequence[str]) -> tuple[str, ...]:
    """As many examples as a finding keeps.

    Example:
        >>> some(["anna", "bob"])
        ('anna', 'bob')
    """
    return tuple(names[:EXAMPLES])


def _indented(text: str, mark: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=" " * 9 + mark,
        subsequent_indent=" " * (9 + len(mark)),
        break_on_hyphens=False,
    )
