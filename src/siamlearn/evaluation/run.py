"""How well embeddings tell people apart, beside what simple baselines reach."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from numbers import Integral, Real

from torch import Tensor

from siamlearn.auditing import audit as audited
from siamlearn.baselines import pca, pca_lda, pixels, untrained
from siamlearn.comparison import Protocol, called, people_of
from siamlearn.data.images import ImageSet
from siamlearn.embeddings import Embeddings, require_own_names
from siamlearn.estimates import Estimate
from siamlearn.evaluation.fold_reports import FoldReport
from siamlearn.evaluation.measuring import Asked, Statistic, measure, trials_of
from siamlearn.evaluation.reports import Difference, Report
from siamlearn.functional.accepted import Accepted
from siamlearn.functional.intervals import difference, effective
from siamlearn.functional.resampling import draws, groups, weighted_mean
from siamlearn.normalisation import require_strangers
from siamlearn.operating import OperatingPoint
from siamlearn.wording import some

__all__ = ["differences", "evaluate"]

RESAMPLES = 1000


def evaluate(
    embeddings: Embeddings,
    point: OperatingPoint | Sequence[OperatingPoint] | None = None,
    *,
    gallery: Embeddings | None = None,
    train: ImageSet | None = None,
    baselines: bool = True,
    audit: bool = True,
    fmrs: Sequence[float] = (0.1, 0.01, 0.001),
    fpirs: Sequence[float] = (0.1, 0.01),
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    protocol: str | None = None,
    name: str = "net",
    progress: bool | None = None,
) -> Report:
    """Tell how well embeddings tell people apart, and how sure that is.

    Without a gallery all pictures are compared with each other, each pair once, and each is
    searched for among all others. With one, every picture is a probe and is compared with the
    whole gallery. No picture is ever compared with itself. Every number comes with the interval
    in which it would lie had other people been measured: pairs of one person are not independent
    of each other, so that people are drawn anew, not pairs.

    Args:
        embeddings: of the tested pictures.
        point: thresholds to report the error rates of, one or several; fitted on other people.
        gallery: embeddings of the enrolled pictures.
        train: the pictures that the net was trained on, for the baselines to learn from: PCA,
            and PCA+LDA. Without them PCA learns from the tested pictures (from the gallery, if
            there is one), without their labels.
        baselines: whether to report pixels, PCA and an untrained net too; needs the pictures in
            ``embeddings``.
        audit: whether to look for what makes such numbers wrong, such as copies of pictures: see
            :func:`siamlearn.audit`.
        fmrs: false match rates at which the false non-match rate is reported.
        fpirs: false positive identification rates at which the false negative one is reported.
        resamples: how often people are drawn anew for the intervals; 0 for no intervals.
        level: how often an interval is to hold the true value.
        seed: of these draws.
        protocol: what to call the comparison in the report; its hash says exactly what it was.
        name: what to call the system in the report.
        progress: True shows a progress bar, False none, None one at a terminal if it takes long.

    Raises:
        TypeError: the embeddings, a point, the gallery or a switch are something else.
        ValueError: there is no genuine or no impostor pair, two pictures have one name, an
            operating point was fitted on people who are reported on, or with another distance, or
            such people are in the cohort of a normalised distance.

    Example:
        >>> import torch
        >>> line = Embeddings(
        ...     torch.tensor([[0.0], [1.0], [4.0], [7.0]]),
        ...     torch.tensor([0, 0, 1, 1]),
        ...     ("anna", "bob"),
        ...     ("1.png", "2.png", "3.png", "4.png"),
        ... )
        >>> report = evaluate(line)  # genuine pairs at 1 and 3; impostors at 3, 4, 6 and 7
        >>> float(report.auc), report.best_threshold, float(report.rank1)
        (0.9375, 3.5, 0.75)

    Source:
        ISO/IEC 19795-1 for the terms and the rates; how the intervals are made is in
        :mod:`siamlearn.functional.resampling`.
    """
    points = tuple(point) if isinstance(point, list | tuple) else (point,)
    points = tuple(each for each in points if each is not None)
    require_kinds(embeddings, points, gallery)
    require_switches(baselines=baselines, audit=audit)
    require_pictures("tested pictures", embeddings)
    if gallery is not None:
        require_pictures("gallery", gallery)
    for each in (embeddings, gallery):
        if each is not None:
            require_strangers(each.distance, everybody(embeddings, gallery))
    for each in points:
        check_point(each, embeddings, gallery)
    for what, shares in (("fmrs", fmrs), ("fpirs", fpirs)):
        require_shares(what, shares)
    require_draws(resamples)
    require_level(level, seed)
    require_words(name=name, protocol="" if protocol is None else protocol)
    asked = Asked(points, tuple(fmrs), tuple(fpirs), resamples, level, seed, progress)
    compared = Protocol.of(embeddings, gallery, protocol)
    report = measure(embeddings, gallery, asked, protocol=compared, name=name)
    if audit:
        found = audited(embeddings, train=train, gallery=gallery, point=points or None)
        report = replace(report, audit=found)
    if not baselines or embeddings.images is None:
        return report
    if gallery is not None and gallery.images is None:
        return report
    rows = baseline_embeddings(
        embeddings.images, None if gallery is None else gallery.images, train
    )
    others = tuple(
        measure(probes, references, replace(asked, points=()), protocol=compared, name=label)
        for label, probes, references in rows
    )
    against: tuple[Difference, ...] = ()
    if resamples:
        against = tuple(d for other in others for d in differences(report, other, seed=seed))
    return replace(report, baselines=others, differences=against)


def differences(one: Report, other: Report, *, seed: int = 0) -> tuple[Difference, ...]:
    """By how much one system differs from another on the same people.

    AUC, EER, FNMR at each FMR and rank-1 are compared. The same people are drawn anew for both,
    so that what is hard for both cancels out. A higher AUC and rank-1 speak for the first system,
    and so do a lower EER and FNMR. The intervals are of the level of the first report.

    Args:
        one: of the first system.
        other: of the second, on the same pictures.
        seed: of these draws.

    Raises:
        TypeError: one of them is no report.
        ValueError: the two did not compare the same pictures of the same people.

    Example:
        >>> from siamlearn.data.drawn import DrawnFaces
        >>> faces = DrawnFaces(6, 4, size=(28, 23))
        >>> one, other = (evaluate(e, baselines=False) for e in (pixels(faces), untrained(faces)))
        >>> [difference.what for difference in differences(one, other)]
        ['AUC', 'EER', 'FNMR at FMR 10 %', 'rank-1']
    """
    require_of_one_protocol(one, other)
    weights = draws(one.cells.units, max(RESAMPLES, one.resamples), seed)
    trials = trials_of(one.embeddings, one.gallery, one.found)
    # What needs genuine pairs is known as well as those people are who have them.
    units = effective(one.cells.genuine[:, -1])
    systems = [(each, each.cells.resampled(weights)) for each in (one, other)]
    statistics: dict[str, tuple[float, Statistic]] = {
        "AUC": (trials.both, Accepted.auc),
        "EER": (trials.both, lambda counts: counts.eer()[0]),
    }
    for fmr, rate in one.fnmr_at.items():
        if rate is not None:
            name = f"FNMR at FMR {100 * fmr:g} %"
            statistics[name] = trials.genuine, partial(Accepted.fnmr_at, fmr=fmr)
    found = [
        told(
            (one.name, other.name, what),
            *((float(statistic(each.accepted)), statistic(drawn)) for each, drawn in systems),
            units=units,
            trials=most,
            level=one.auc.level,
        )
        for what, (most, statistic) in statistics.items()
    ]
    if one.found.answerable.any():
        ranks = [(float(each.rank1), rank1_drawn(each, weights)) for each in (one, other)]
        names = one.name, other.name, "rank-1"
        who, _, people = people_of(one.embeddings, one.gallery)
        unit = groups(len(people))[who][one.found.answerable]
        units = effective(unit.bincount())
        most, level = trials.genuine, one.auc.level
        found.append(told(names, *ranks, units=units, trials=most, level=level))
    return tuple(found)


def require_of_one_protocol(one: Report, other: Report) -> None:
    for each in (one, other):
        if not isinstance(each, Report):
            own = "; fold_differences is for those" if isinstance(each, FoldReport) else ""
            msg = (
                f"two Reports are compared, as evaluate(…) returns them, got "
                f"{type(each).__name__}{own}"
            )
            raise TypeError(msg)
    require_one_protocol(one, other)


def require_one_protocol(one: Report | FoldReport, other: Report | FoldReport) -> None:
    """Refuse what was measured on other pictures; warn where only their pixels are others."""
    first, second = one.protocol, other.protocol
    if first.digest != second.digest:
        msg = (
            f"two systems are compared on the same pictures of the same people: {one.name} was "
            f"measured on {first}, {other.name} on {second}; evaluate both on one"
        )
        raise ValueError(msg)
    if first.pictures and second.pictures and first.pictures != second.pictures:
        warnings.warn(
            f"pictures of the same names have other pixels for {one.name} "
            f"({first.pictures[:8]}) than for {other.name} ({second.pictures[:8]}): the two can "
            f"be compared if these are the same pictures in another size or form, not if any was "
            f"exchanged",
            stacklevel=4,
        )


def told(
    names: tuple[str, str, str],
    first: tuple[float, Tensor],
    second: tuple[float, Tensor],
    *,
    units: float,
    trials: float,
    level: float,
) -> Difference:
    """The difference of two numbers, each with its resamples."""
    (value, drawn), (other, other_drawn) = first, second
    low, high, p = difference(
        value, other, drawn, other_drawn, units=units, trials=trials, level=level
    )
    return Difference(*names, Estimate(value - other, low, high, level), p)


def rank1_drawn(report: Report, weights: Tensor) -> Tensor:
    """The rank-1 rate of each resample."""
    who, _, names = people_of(report.embeddings, report.gallery)
    unit = groups(len(names))[who]
    return weighted_mean(report.found.hit_at(1), unit, weights, report.found.answerable)


def require_kinds(embeddings: object, points: Sequence[object], gallery: object) -> None:
    advice = "make them with embed(net, images)"
    for what, given in (("embeddings", embeddings), ("gallery", gallery)):
        if not isinstance(given, Embeddings) and (given is not None or what == "embeddings"):
            msg = f"{what} must be Embeddings, got {type(given).__name__}; {advice}"
            raise TypeError(msg)
    for point in points:
        if not isinstance(point, OperatingPoint):
            msg = (
                f"point must be OperatingPoint, got {type(point).__name__}; pictures that the "
                f"net was trained on go to train="
            )
            raise TypeError(msg)
    names = [point.name for point in points if isinstance(point, OperatingPoint)]
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        msg = (
            f"points are told apart by their names, but {twice[0]!r} is that of several; give "
            f"each one of its own, OperatingPoint.fit(…, name=…)"
        )
        raise ValueError(msg)


def require_switches(**switches: object) -> None:
    for name, given in switches.items():
        if not isinstance(given, bool):
            msg = (
                f"{name} is either True or False, got {given!r}: all are reported, or none; to "
                f"compare with another system, evaluate it, and ask for sl.differences"
            )
            raise TypeError(msg)


def require_pictures(what: str, embeddings: Embeddings) -> None:
    if not len(embeddings):
        msg = f"{what} must hold a picture or more, got none; embed some with embed(net, images)"
        raise ValueError(msg)
    require_own_names(what, embeddings)


def require_draws(resamples: object) -> None:
    advice = "0 for no intervals, or two or more; 1000 will do"
    if isinstance(resamples, bool) or not isinstance(resamples, Integral):
        msg = f"resamples must be a whole number, {advice}; got {resamples!r}"
        raise TypeError(msg)
    if resamples < 0 or resamples == 1:
        msg = f"resamples must be {advice}; got {resamples}"
        raise ValueError(msg)


def require_level(level: object, seed: object) -> None:
    if isinstance(level, bool) or not isinstance(level, Real):
        msg = f"level must be a number above 0 and below 1, got {level!r}; 0.95 is usual"
        raise TypeError(msg)
    if isinstance(seed, bool) or not isinstance(seed, Integral) or seed < 0:
        msg = f"seed must be a whole number, 0 or more, got {seed!r}; 0 will do"
        raise ValueError(msg)


def require_shares(what: str, shares: object) -> None:
    if isinstance(shares, str | bytes) or not isinstance(shares, Iterable):
        msg = (
            f"{what} must be several shares, such as (0.1, 0.01), got {shares!r}; a single one is "
            f"{what}=(0.01,)"
        )
        raise TypeError(msg)
    for share in shares:
        if isinstance(share, bool) or not isinstance(share, Real):
            msg = f"{what} must be numbers above 0 and below 1, got {share!r}; 1 % is 0.01"
            raise TypeError(msg)
        if not 0 < float(share) < 1:
            msg = f"{what} must be above 0 and below 1, got {share}; 0.01 is 1 in 100"
            raise ValueError(msg)


def require_words(**words: object) -> None:
    for what, given in words.items():
        if not isinstance(given, str):
            msg = f"{what} is a text that stands in the report, got {given!r}; write {what}='net'"
            raise TypeError(msg)


def everybody(embeddings: Embeddings, gallery: Embeddings | None) -> tuple[str, ...]:
    """Who is tested, and who is enrolled."""
    return tuple(dict.fromkeys(embeddings.people + (() if gallery is None else gallery.people)))


def check_point(point: OperatingPoint, embeddings: Embeddings, gallery: Embeddings | None) -> None:
    people = everybody(embeddings, gallery)
    seen = point.seen(people)
    if seen:
        msg = (
            f"error rates must be reported on other people than the threshold was chosen on, but "
            f"{len(seen)} of the {len(people)} tested ones ({some(seen)}) are in the operating "
            f"point {point.name!r}; fit it on people of their own, from images.split_identities()"
        )
        raise ValueError(msg)
    if point.distance is not embeddings.distance:
        msg = (
            f"a threshold holds for the distance that it was chosen with, "
            f"{called(point.distance)}, got embeddings compared by "
            f"{called(embeddings.distance)}; fit the point on embeddings with that distance"
        )
        raise ValueError(msg)


def baseline_embeddings(
    probes: ImageSet, gallery: ImageSet | None, train: ImageSet | None
) -> list[tuple[str, Embeddings, Embeddings | None]]:
    """Name of each baseline, its embeddings of the probes, and those of the gallery."""
    systems: list[tuple[str, Callable[[ImageSet], Embeddings]]] = [("pixels", pixels)]
    learned_from, where = gallery, " (fitted on the gallery)"
    if train is not None:
        learned_from, where = train, ""
    elif gallery is None:
        where = " (fitted on these)"
    fitted = partial(pca, train=learned_from)
    systems += [(f"PCA{where}", fitted), (f"PCA whitened{where}", partial(fitted, whitened=True))]
    if train is not None:
        systems += [("PCA+LDA", partial(pca_lda, train=train))]
    systems += [("untrained net", untrained)]
    return [
        (name, system(probes), None if gallery is None else system(gallery))
        for name, system in systems
    ]
