"""Numbers that say how sure they are."""

from __future__ import annotations

from typing import Any, Self, final

__all__ = ["Estimate"]


@final
class Estimate(float):
    """A number with the interval in which it would lie had other people been measured.

    It is a float: it can be compared, added and formatted like one.

    Args:
        value: what was measured.
        low: the lower end of the interval, at most ``value``.
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

    def __new__(cls, value: float, low: float, high: float, level: float = 0.95) -> Self:
        self = super().__new__(cls, value)
        self.low, self.high, self.level = float(low), float(high), float(level)
        return self

    def __getnewargs__(self) -> tuple[float, float, float, float]:  # type: ignore[override]
        return float(self), self.low, self.high, self.level

    def __str__(self) -> str:
        return f"{float(self):.4g} [{self.low:.4g}, {self.high:.4g}]"

    def __repr__(self) -> str:
        return f"Estimate({float(self)!r}, {self.low!r}, {self.high!r}, {self.level!r})"

    def percent(self) -> str:
        """The number and its interval in per cent.

        Example:
            >>> Estimate(0.0123, 0.004, 0.0251).percent()
            '1.23 % [0.40, 2.51]'
        """
        return f"{100 * self:.2f} % [{100 * self.low:.2f}, {100 * self.high:.2f}]"

    def to_dict(self) -> dict[str, Any]:
        """Value, interval and level, ready for JSON."""
        return {"value": float(self), "low": self.low, "high": self.high, "level": self.level}

    @classmethod
    def from_dict(cls, values: dict[str, float]) -> Self:
        """The number that ``to_dict`` described."""
        return cls(**values)
