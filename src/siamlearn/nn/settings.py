"""What the settings of losses and of references may be: each check gives the value back."""

import math

__all__ = ["above_zero", "at_least_one", "at_least_zero", "below_pi", "finite", "share"]


def above_zero(name: str, value: float, reason: str) -> float:
    """The value, if a setting of that name may have it.

    Raises:
        ValueError: where it is not above zero and finite.

    Example:
        >>> above_zero("margin", 0.5, "else nothing pushes negatives apart")
        0.5
    """
    if not 0 < value < math.inf:
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
    if not 0 <= value < math.inf:
        msg = f"{name} must be at least zero and finite, got {value}"
        raise ValueError(msg)
    return value


def at_least_one(name: str, value: int, reason: str) -> int:
    """The number, if a setting of that name may have it.

    Raises:
        ValueError: where it is below one.

    Example:
        >>> at_least_one("bins", 10, "distances are cut into them")
        10
    """
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
    if not math.isfinite(value):
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
    if not 0 < value < math.pi:
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
    if not 0 <= value < 1:
        msg = f"{name} must be a share, at least 0 and below 1, got {value}"
        raise ValueError(msg)
    return value
