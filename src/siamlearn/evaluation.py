"""How well embeddings tell people apart, beside what simple baselines reach."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from siamlearn.baselines import pca, pca_lda, pixels
from siamlearn.comparison import compare, strips
from siamlearn.data.images import ImageSet
from siamlearn.embeddings import Embeddings
from siamlearn.functional import verification
from siamlearn.functional.identification import cmc, ranks
from siamlearn.operating import OperatingPoint

__all__ = ["Report", "evaluate"]

LONGEST = 20  # ranks of the CMC


@final
@dataclass(frozen=True, eq=False)
class Report:
    """What came out when embeddings were compared: verification, identification, baselines.

    Rates are shares from 0 to 1. ``str(report)`` is a table for people, ``to_dict`` and ``save``
    are for programs.

    Args:
        name: which system this is.
        people: identities that were compared, gallery included.
        pictures: pictures that were compared with each other, or the probes.
        gallery_pictures: pictures in the gallery; None where all were compared with all.
        genuine: distances of all pairs of pictures of one identity.
        impostor: distances of all pairs of pictures of two identities.
        auc: chance that a genuine pair is closer than an impostor pair; a tie counts half.
        eer: the rate at which FMR and FNMR are equal.
        eer_threshold: the distance at which they are.
        fnmr_at: for each FMR the FNMR; None where the impostor pairs are too few to tell.
        best_threshold: the distance that parts these very pairs best.
        balanced_accuracy: mean of the shares of genuine and of impostor pairs told right at
            ``best_threshold``, and so an upper bound for any threshold chosen elsewhere.
        accuracy: share of all pairs told right at ``best_threshold``.
        rank1: share of the pictures whose nearest other picture is of the right identity.
        cmc: share of the pictures with a right one among the nearest 1, 2, 3 … pictures.
        without_answer: pictures left out of ``rank1`` and ``cmc``: none other shows that identity.
        point: the operating point, which was fitted on other people.
        fmr: false match rate of these people at the operating point.
        fnmr: false non-match rate of these people there.
        baselines: reports of simpler systems on the same pictures.

    Example:
        >>> from siamlearn.data.drawn import DrawnFaces
        >>> report = evaluate(pixels(DrawnFaces(3, 4, size=(28, 23))), name="my net")
        >>> print(str(report).splitlines()[0][:27])  # it is nothing but pixels itself
        my net does not beat pixels
        >>> [baseline.name for baseline in report.baselines]
        ['pixels', 'PCA (fitted on these)']
    """

    name: str
    people: int
    pictures: int
    gallery_pictures: int | None
    auc: float
    eer: float
    eer_threshold: float
    fnmr_at: dict[float, float | None]
    best_threshold: float
    balanced_accuracy: float
    accuracy: float
    rank1: float
    cmc: tuple[float, ...]
    without_answer: int
    genuine: Float[Tensor, " g"] = field(repr=False)
    impostor: Float[Tensor, " i"] = field(repr=False)
    point: OperatingPoint | None = None
    fmr: float | None = None
    fnmr: float | None = None
    baselines: tuple[Report, ...] = ()

    @property
    def beaten_by(self) -> tuple[Report, ...]:
        """The baselines whose AUC is at least as high, best first."""
        better = [baseline for baseline in self.baselines if baseline.auc >= self.auc]
        return tuple(sorted(better, key=lambda baseline: -baseline.auc))

    def __str__(self) -> str:
        return "\n".join([*self._headline(), "", *self._table(), "", *self._notes()])

    def _headline(self) -> list[str]:
        lines = []
        if self.beaten_by:
            best = self.beaten_by[0]
            lines.append(
                f"{self.name} does not beat {best.name}: AUC {self.auc:.4f} against {best.auc:.4f}"
            )
        against = ""
        if self.gallery_pictures is not None:
            against = f" against a gallery of {self.gallery_pictures:,}"
        lines.append(
            f"{self.pictures:,} pictures{against}, {self.people:,} people: {len(self.genuine):,} "
            f"genuine and {len(self.impostor):,} impostor pairs"
        )
        return lines

    def _table(self) -> list[str]:
        head = [
            *("", "AUC", "EER"),
            *(f"FNMR@FMR {100 * fmr:g} %" for fmr in self.fnmr_at),
            *("balanced accuracy*", "rank-1"),
        ]
        return aligned(head, [row._cells() for row in (self, *self.baselines)])

    def _cells(self) -> list[str]:
        return [
            *(self.name, f"{self.auc:.4f}", percent(self.eer)),
            *("?" if rate is None else percent(rate) for rate in self.fnmr_at.values()),
            *(f"{self.balanced_accuracy:.4f}", percent(self.rank1)),
        ]

    def _notes(self) -> list[str]:
        notes = []
        if self.point is not None and self.fmr is not None and self.fnmr is not None:
            notes.append(
                f"At {self.point.name}, threshold {self.point.threshold:.4g} chosen on "
                f"{len(self.point.people)} other people: "
                f"FMR {percent(self.fmr)}, FNMR {percent(self.fnmr)}"
            )
        notes.append(
            f"* at threshold {self.best_threshold:.4g}, the best for these very pairs, where "
            f"{percent(self.accuracy)} of all are told right: an upper bound"
        )
        if None in self.fnmr_at.values():
            notes.append(f"? {len(self.impostor):,} impostor pairs are too few to tell")
        if self.without_answer:
            notes.append(
                f"rank-1 leaves out {self.without_answer:,} pictures whose identity is on no other"
            )
        return notes

    def to_dict(self) -> dict[str, Any]:
        """All but the distances, as plain numbers, lists and dictionaries, ready for JSON."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {
            **values,
            "genuine": len(self.genuine),
            "impostor": len(self.impostor),
            "fnmr_at": {str(fmr): rate for fmr, rate in self.fnmr_at.items()},
            "cmc": list(self.cmc),
            "point": None if self.point is None else self.point.to_dict(),
            "baselines": [baseline.to_dict() for baseline in self.baselines],
        }

    def save(self, path: str | Path) -> Path:
        """Write ``to_dict`` to a JSON file."""
        path = Path(path)
        path.write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n")
        return path


def evaluate(
    embeddings: Embeddings,
    point: OperatingPoint | None = None,
    *,
    gallery: Embeddings | None = None,
    train: ImageSet | None = None,
    baselines: bool = True,
    fmrs: Sequence[float] = (0.1, 0.01, 0.001),
    name: str = "net",
) -> Report:
    """Tell how well embeddings tell people apart.

    Without a gallery all pictures are compared with each other, each pair once, and each is
    searched for among all others. With one, every picture is a probe and is compared with the
    whole gallery. No picture is ever compared with itself.

    Args:
        embeddings: of the tested pictures.
        point: a threshold to report the error rates of; fitted on other people.
        gallery: embeddings of the enrolled pictures.
        train: the pictures that the net was trained on, for the baselines to learn from: PCA,
            and PCA+LDA. Without them PCA learns from the tested pictures (from the gallery, if
            there is one), without their labels.
        baselines: whether to report pixels and PCA too; needs the pictures in ``embeddings``.
        fmrs: false match rates at which the false non-match rate is reported.
        name: what to call the system in the report.

    Raises:
        TypeError: the embeddings, the point or the gallery are something else.
        ValueError: there is no genuine or no impostor pair, or the operating point was fitted on
            people who are reported on, or with another distance.

    Example:
        >>> import torch
        >>> line = Embeddings(
        ...     torch.tensor([[0.0], [1.0], [4.0], [7.0]]),
        ...     torch.tensor([0, 0, 1, 1]),
        ...     ("anna", "bob"),
        ...     ("1.png", "2.png", "3.png", "4.png"),
        ... )
        >>> report = evaluate(line)  # genuine pairs at 1 and 3; impostors at 3, 4, 6 and 7
        >>> report.auc, report.best_threshold, report.rank1
        (0.9375, 3.5, 0.75)

    Source:
        ISO/IEC 19795-1 for the terms and the rates.
    """
    require_kinds(embeddings, point, gallery)
    if point is not None:
        check_point(point, embeddings, gallery)
    report = measured(embeddings, gallery, fmrs=fmrs, name=name)
    if point is not None:
        genuine, impostor = report.genuine.double(), report.impostor.double()
        fmr, fnmr = verification.rates_at(genuine, impostor, point.threshold)
        report = replace(report, point=point, fmr=fmr.item(), fnmr=fnmr.item())
    if not baselines or embeddings.images is None:
        return report
    if gallery is not None and gallery.images is None:
        return report
    rows = baseline_embeddings(
        embeddings.images, None if gallery is None else gallery.images, train
    )
    return replace(
        report,
        baselines=tuple(
            measured(probes, references, fmrs=fmrs, name=label)
            for label, probes, references in rows
        ),
    )


def require_kinds(embeddings: object, point: object, gallery: object) -> None:
    for what, given, kind, advice in (
        ("embeddings", embeddings, Embeddings, "make them with embed(net, images)"),
        ("point", point, OperatingPoint, "pictures that the net was trained on go to train="),
        ("gallery", gallery, Embeddings, "make them with embed(net, images)"),
    ):
        if not isinstance(given, kind) and (given is not None or what == "embeddings"):
            msg = f"{what} must be {kind.__name__}, got {type(given).__name__}; {advice}"
            raise TypeError(msg)


def check_point(point: OperatingPoint, embeddings: Embeddings, gallery: Embeddings | None) -> None:
    people = dict.fromkeys(embeddings.people + (() if gallery is None else gallery.people))
    seen = point.seen(people)
    if seen:
        shown = ", ".join(seen[:5]) + (", …" if len(seen) > 5 else "")
        msg = (
            f"error rates must be reported on other people than the threshold was chosen on, but "
            f"{len(seen)} of the {len(people)} tested ones ({shown}) are in the operating point "
            f"{point.name!r}; fit it on people of their own, from images.split_identities()"
        )
        raise ValueError(msg)
    if point.distance is not embeddings.distance:
        msg = (
            f"a threshold holds for the distance that it was chosen with, {point.distance}, "
            f"got embeddings compared by {embeddings.distance}; fit the point on embeddings "
            f"with that distance"
        )
        raise ValueError(msg)


def measured(
    probes: Embeddings, gallery: Embeddings | None, *, fmrs: Iterable[float], name: str
) -> Report:
    """A report without operating point and baselines."""
    found = compare(probes, gallery)
    genuine, impostor = found.genuine, found.impostor
    if not len(genuine) or not len(impostor):
        msg = (
            f"a report needs two pictures of one identity and pictures of two identities to "
            f"compare, got {len(genuine)} genuine and {len(impostor)} impostor pairs from "
            f"{probes}{'' if gallery is None else f' and a gallery of {gallery}'}"
        )
        raise ValueError(msg)
    eer, eer_threshold = verification.equal_error_rate(genuine, impostor)
    balanced_accuracy, best_threshold = verification.best_threshold(genuine, impostor)
    fmr, fnmr = verification.rates_at(genuine, impostor, best_threshold)
    wrong = fmr * len(impostor) + fnmr * len(genuine)
    references = probes if gallery is None else gallery
    rank = torch.cat([ranks(s.distance, s.same, s.valid) for s in strips(probes, gallery)])
    within = cmc(rank, min(LONGEST, len(references))).tolist()
    return Report(
        name=name,
        people=len({*probes.people, *references.people}),
        pictures=len(probes),
        gallery_pictures=None if gallery is None else len(gallery),
        auc=verification.roc_auc(genuine, impostor).item(),
        eer=eer.item(),
        eer_threshold=eer_threshold.item(),
        fnmr_at=fnmr_at(genuine, impostor, fmrs),
        best_threshold=best_threshold.item(),
        balanced_accuracy=balanced_accuracy.item(),
        accuracy=1 - wrong.item() / (len(genuine) + len(impostor)),
        rank1=within[0],
        cmc=tuple(within),
        without_answer=int((rank == 0).sum()),
        genuine=genuine,
        impostor=impostor,
    )


def fnmr_at(genuine: Tensor, impostor: Tensor, fmrs: Iterable[float]) -> dict[float, float | None]:
    """The lowest FNMR of any threshold at which at most so many impostors pass."""
    curve = verification.rates(genuine, impostor)
    found: dict[float, float | None] = {}
    for fmr in fmrs:
        if not 0 < fmr < 1:
            msg = f"fmrs must be above 0 and below 1, got {fmr}; 0.01 accepts 1 impostor in 100"
            raise ValueError(msg)
        resolved = verification.resolves(fmr, len(impostor))
        found[fmr] = curve.fnmr[curve.fmr <= fmr].min().item() if resolved else None
    return found


def baseline_embeddings(
    probes: ImageSet, gallery: ImageSet | None, train: ImageSet | None
) -> list[tuple[str, Embeddings, Embeddings | None]]:
    """Name of each baseline, its embeddings of the probes, and those of the gallery."""
    systems: list[tuple[str, Callable[[ImageSet], Embeddings]]] = [("pixels", pixels)]
    if train is not None:
        systems += [("PCA", partial(pca, train=train)), ("PCA+LDA", partial(pca_lda, train=train))]
    elif gallery is not None:
        systems += [("PCA (fitted on the gallery)", partial(pca, train=gallery))]
    else:
        systems += [("PCA (fitted on these)", pca)]
    return [
        (name, system(probes), None if gallery is None else system(gallery))
        for name, system in systems
    ]


def percent(rate: float) -> str:
    return f"{100 * rate:.2f} %"


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table: the first column to the left, the others to the right, each as wide as need be."""
    lines = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
