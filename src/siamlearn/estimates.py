"""Numbers that say how sure they are."""

from __future__ import annotations

import math
from typing import Any, Self, final

__all__ = ["Estimate", "shown"]


@final
class Estimate(float):
    """A number with the interval in which it would lie had other people been measured.

    It is a float: it can be compared, added and formatted like one.

    Args:
        value: what was measured.
        low: the lower end of the interval, at most ``value``; NaN where none was asked for.
        high: its upper end.
        level: how often such an interval is to hold the true value.

    Example:
        >>> auc = Estimate(0.983, 0.951, 0.995)
        >>> print(auc)
        0.983 [0.951, 0.995]
        >>> auc > 0.9, f"{auc:.1%}", auc.high
        (True, '98.3%', 0.995)
    """

    low: float
    high: float
    level: float

    def __new__(
        cls, value: float, low: float = math.nan, high: float = math.nan, level: float = 0.95
    ) -> Self:
        self = super().__new__(cls, value)
        self.low, self.high, self.level = float(low), float(high), float(level)
        return self

    def __getnewargs__(self) -> tuple[float, float, float, float]:  # type: ignore[override]
        return float(self), self.low, self.high, self.level

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return not math.isnan(self.low)

    def __str__(self) -> str:
        return shown(self)

    def __repr__(self) -> str:
        return f"Estimate({float(self)!r}, {self.low!r}, {self.high!r}, {self.level!r})"

    def percent(self) -> str:
        """The number and its interval in per cent.

        Example:
            >>> Estimate(0.0123, 0.004, 0.0251).percent()
            '1.23 % [0.40, 2.51]'
        """
        return shown(self, percent=True)

    def to_dict(self) -> dict[str, Any]:
        """Value, interval and level, ready for JSON; None for what is not known."""
        ends = {"low": self.low, "high": self.high}
        return {"value": _plain(float(self)), **{k: _plain(v) for k, v in ends.items()}} | {
            "level": self.level
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The number that ``to_dict`` described.

        Example:
            >>> Estimate.from_dict(Estimate(0.5, 0.25, 0.75).to_dict())
            Estimate(0.5, 0.25, 0.75, 0.95)
        """
        return cls(**{name: math.nan if v is None else v for name, v in values.items()})


def shown(value: float | None, *, percent: bool = False, digits: str | None = None) -> str:
    """A number as it is told everywhere: in brackets its interval, where it has one.

    Args:
        value: an :class:`Estimate`, or a plain number; "?" stands for None, where nobody can tell.
        percent: whether to tell it in per cent, as a share is.
        digits: how, as in a format string; two behind the point of per cents, or else four in all.

    Example:
        >>> shown(Estimate(0.98312, 0.951, 0.995)), shown(None)
        ('0.9831 [0.951, 0.995]', '?')
        >>> shown(Estimate(0.98312, 0.951, 0.995), percent=True, digits=".1f"), shown(0.5)
        ('98.3 % [95.1, 99.5]', '0.5')
    """
    if value is None:
        return "?"
    factor, form = (100, digits or ".2f") if percent else (1, digits or ".4g")
    text = f"{factor * float(value):{form}}{' %' if percent else ''}"
    if not isinstance(value, Estimate) or not value.known:
        return text
    return f"{text} [{factor * value.low:{form}}, {factor * value.high:{form}}]"


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
