"""What a threshold is chosen for: a rule that reads it off the accepted pairs, and its limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, expm1, inf, log1p
from typing import final

from torch import Tensor

from siamlearn.functional.accepted import Accepted
from siamlearn.functional.intervals import trials_needed
from siamlearn.functional.verification import resolves

__all__ = ["Aim", "aim"]

USUAL = 0.01  # the FMR that is asked for where nothing is
KINDS = "fmr, fpir, precision, f_beta, eer, balanced"


@final
@dataclass(frozen=True)
class Aim:
    """What a threshold is chosen for.

    Args:
        name: what a point that was chosen so is called.
        threshold: reads it off the accepted pairs.
        check: raises ``ValueError`` where so many pairs cannot tell.
        fmr: the false match rate that was asked for, if that is the aim.
        rate: whether a rate of strangers is promised, which does not hold by itself for people on
            whom the threshold was not chosen.
        genuine: whether genuine pairs are needed.
        people: whether a false match is one of a picture with a person, all of their pictures,
            and not one of two pictures.
        within: the same up to a limit, where a stricter threshold need not keep what is asked.

    Example:
        >>> aim(fmr=0.01).name, aim(eer=True).rate
        ('FMR 1 %', False)
    """

    name: str
    threshold: Callable[[Accepted], Tensor]
    check: Callable[[Accepted], None]
    fmr: float | None = None
    rate: bool = True
    genuine: bool = True
    people: bool = False
    within: Callable[[Accepted, float], Tensor] | None = None


def aim(
    *,
    fmr: float | None = None,
    fpir: float | None = None,
    gallery: int | None = None,
    precision: float | None = None,
    f_beta: float | None = None,
    prior: float | None = None,
    eer: bool = False,
    balanced: bool = False,
) -> Aim:
    """The one aim that was asked for; see ``OperatingPoint.fit``.

    Raises:
        ValueError: more than one aim was asked for, or one that cannot be.

    Example:
        >>> aim(fpir=0.01, gallery=500).name
        'FPIR 1 % of 500 people'
    """
    numbers = {"fmr": fmr, "fpir": fpir, "precision": precision, "f_beta": f_beta}
    asked = [name for name, value in numbers.items() if value is not None]
    asked += [name for name, wanted in (("eer", eer), ("balanced", balanced)) if wanted]
    if len(asked) > 1:
        msg = f"a threshold is chosen for one of {KINDS}, got {' and '.join(asked)}; fit two points"
        raise ValueError(msg)
    what = asked[0] if asked else "fmr"
    if (gallery is not None) != (what == "fpir"):
        msg = (
            f"gallery= is the number of people among whom an FPIR is asked for: got {what} with "
            f"gallery={gallery}; pass both fpir= and gallery=, or neither"
        )
        raise ValueError(msg)
    if prior is not None and what not in ("precision", "f_beta"):
        msg = f"prior= belongs to precision= or f_beta=, got it with {what}; leave it out"
        raise ValueError(msg)
    if what == "fpir":
        return _of_fpir(_share("fpir", fpir), gallery or 0)
    if what == "precision":
        return _of_precision(_share("precision", precision), _share("prior", prior, 0.5))
    if what == "f_beta":
        return _of_f_beta(f_beta or 0.0, _share("prior", prior, 0.5))
    if what == "fmr":
        return _of_fmr(_share("fmr", fmr, USUAL))
    best = {"eer": ("EER", Accepted.eer), "balanced": ("balanced accuracy", Accepted.best)}
    name, read = best[what]
    return Aim(name, lambda seen: read(seen)[1], _anything, rate=False)


def _of_fmr(fmr: float) -> Aim:
    def check(seen: Accepted) -> None:
        pairs = seen.pairs[1]
        if not resolves(fmr, pairs):
            msg = (
                f"FMR {fmr:g} cannot be read from {pairs:,} impostor pairs, which resolve "
                f"{3 / pairs:.2g} at best (rule of three); use more identities or a higher FMR: "
                f"{trials_needed(fmr):,} pairs are needed"
            )
            raise ValueError(msg)

    name = f"FMR {100 * fmr:.3g} %"
    return Aim(name, lambda seen: seen.threshold_at(fmr), check, fmr=fmr, genuine=False)


def _of_fpir(fpir: float, gallery: int) -> Aim:
    """As many false matches with one person as make the rate among so many of them.

    People are taken to be independent: 1 - FPIR = (1 - rate)^gallery. A probe that resembles
    several of them raises one alarm and not several, so the rate comes out no higher than asked.
    """
    if not isinstance(gallery, int) or gallery < 1:
        msg = f"gallery= is a number of people, at least one, got gallery={gallery}"
        raise ValueError(msg)
    rate = -expm1(log1p(-fpir) / gallery)

    def check(seen: Accepted) -> None:
        pairs = seen.pairs[1]
        if not resolves(rate, pairs):
            most = int(log1p(-fpir) / log1p(-min(3 / pairs, 0.5)))
            smaller = f", or a gallery of at most {most:,} people" if most else ""
            msg = (
                f"FPIR {fpir:g} among {gallery:,} people cannot be read from {pairs:,} comparisons "
                f"of a picture with another person: {trials_needed(rate):,} are needed (rule of "
                f"three); use more identities or a higher FPIR{smaller}"
            )
            raise ValueError(msg)

    name = f"FPIR {100 * fpir:.3g} % of {gallery:,} people"
    return Aim(name, lambda seen: seen.threshold_at(rate), check, genuine=False, people=True)


def _of_precision(precision: float, prior: float) -> Aim:
    def threshold(seen: Accepted, limit: float = inf) -> Tensor:
        return seen.at_prior(prior).threshold_at_precision(precision, limit=limit)

    def check(seen: Accepted) -> None:
        found = threshold(seen)
        pairs, recall = seen.pairs[1], 1 - seen.at(found)[1].item()
        # The FMR that leaves this precision to those who are accepted.
        fmr = prior * recall * (1 - precision) / ((1 - prior) * precision)
        if not recall or not resolves(fmr, pairs):
            needed = f"an FMR of {fmr:.2g}, {ceil(3 / fmr):,}" if recall else "more"
            msg = (
                f"precision {precision:g} with {prior:g} of all pairs genuine cannot be read from "
                f"{pairs:,} impostor pairs: it needs {needed} impostor pairs, or a better net; use "
                f"more identities, or ask for less"
            )
            raise ValueError(msg)

    name = f"precision {100 * precision:.3g} % at prior {prior:g}"
    return Aim(name, threshold, check, within=threshold)


def _of_f_beta(beta: float, prior: float) -> Aim:
    if isinstance(beta, str):
        msg = f"f_beta must be a number, got {beta!r}; 1 weighs precision and recall alike"
        raise TypeError(msg)
    if not 0 < beta < float("inf"):
        msg = f"f_beta must be above 0, got {beta}; 1 weighs precision and recall alike"
        raise ValueError(msg)

    def threshold(seen: Accepted) -> Tensor:
        return seen.at_prior(prior).best_f_beta(beta)[1]

    return Aim(f"F{beta:g} at prior {prior:g}", threshold, _anything, rate=False)


def _share(name: str, value: float | None, usual: float | None = None) -> float:
    value = usual if value is None else value
    if isinstance(value, str):
        msg = f"{name} must be a number, got {value!r}; 1 % is 0.01"
        raise TypeError(msg)
    if value is None or not 0 < value < 1:
        examples = {
            "fmr": "0.01 accepts 1 impostor in 100",
            "fpir": "0.01 takes 1 stranger in 100 for somebody",
            "precision": "0.99 is right about 99 of 100 accepted pairs",
            "prior": "0.001 expects 1 genuine pair in 1,000",
        }
        msg = f"{name} must be above 0 and below 1, got {value}; {examples[name]}"
        raise ValueError(msg)
    return value


def _anything(seen: Accepted) -> None:
    """There is no rate that many pairs are needed for."""
