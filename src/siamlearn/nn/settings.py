"""What the settings of losses and of references may be: each check gives the value back."""

import math
from numbers import Integral

__all__ = [
    "above_zero",
    "at_least_one",
    "at_least_zero",
    "below_pi",
    "finite",
    "number",
    "share",
    "yes_or_no",
]


def number(name: str, value: float) -> float:
    """The value, if it is a number at all.

    Raises:
        ValueError: where it is not.

    Example:
        >>> number("margin", 0.5)
        0.5
    """
    if isinstance(value, str | bytes | bool) or not hasattr(value, "__float__"):
        msg = f"{name} must be a number, got {value!r}"
        raise ValueError(msg)
    return value


def yes_or_no(name: str, value: bool) -> bool:
    """The value, if it is True or False.

    Raises:
        ValueError: where it is not.

    Example:
        >>> yes_or_no("squared", False)
        False
    """
    if not isinstance(value, bool):
        msg = f"{name} must be True or False, got {value!r}"
        raise ValueError(msg)
    return value


def above_zero(name: str, value: float, reason: str) -> float:
    """The value, if a setting of that name may have it.

    Raises:
        ValueError: where it is not above zero and finite.

    Example:
        >>> above_zero("margin", 0.5, "else nothing pushes negatives apart")
        0.5
    """
    if not 0 < number(name, value) < math.inf:
        msg = f"{name} must be above zero and finite, got {value}: {reason}"
        raise ValueError(msg)
    return value


def at_least_zero(name: str, value: float) -> float:
    """The value, if a setting of that name may have it.

    Raises:
        ValueError: where it is below zero or not finite.

    Example:
        >>> at_least_zero("annealing", 0.0)
        0.0
    """
    if not 0 <= number(name, value) < math.inf:
        msg = f"{name} must be at least zero and finite, got {value}"
        raise ValueError(msg)
    return value


def at_least_one(name: str, value: int, reason: str) -> int:
    """The number, if a setting of that name may have it.

    Raises:
        ValueError: where it is below one, or not a whole number.

    Example:
        >>> at_least_one("bins", 10, "distances are cut into them")
        10
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        msg = f"{name} must be a whole number, got {value!r}: {reason}"
        raise ValueError(msg)
    if value < 1:
        msg = f"{name} must be at least 1, got {value}: {reason}"
        raise ValueError(msg)
    return value


def finite(name: str, value: float, reason: str) -> float:
    """The value, if a setting of that name may have it.

    Raises:
        ValueError: where it is infinite, or not a number.

    Example:
        >>> finite("bias", -10.0, "it is where learning starts")
        -10.0
    """
    if not math.isfinite(number(name, value)):
        msg = f"{name} must be finite, got {value}: {reason}"
        raise ValueError(msg)
    return value


def below_pi(name: str, value: float) -> float:
    """The angle, if a setting of that name may have it.

    Raises:
        ValueError: where it is not above zero and below π.

    Example:
        >>> below_pi("margin", 0.5)
        0.5
    """
    if not 0 < number(name, value) < math.pi:
        msg = f"{name} must be an angle in radians, above 0 and below π, got {value}"
        raise ValueError(msg)
    return value


def share(name: str, value: float) -> float:
    """The share, if a setting of that name may have it.

    Raises:
        ValueError: where it is not at least 0 and below 1.

    Example:
        >>> share("momentum", 0.99)
        0.99
    """
    if not 0 <= number(name, value) < 1:
        msg = f"{name} must be a share, at least 0 and below 1, got {value}"
        raise ValueError(msg)
    return value
