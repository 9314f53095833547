"""Two runs beside each other: what was set otherwise, and what came of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from siamlearn import plots
from siamlearn.data.image_set import ImageSet
from siamlearn.embeddings import embed
from siamlearn.evaluation import Difference, Report, differences, evaluate
from siamlearn.known import known_by
from siamlearn.train.loading import Run, load_run
from siamlearn.train.runs import settings_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["RunComparison", "compare_runs"]

MISSING = "-"
WIDEST = 40  # letters of a setting; those of a loss fill a line
# Which way is better, by the end of the name: val_loss, rank1, and what a callback calls its own.
BETTER: dict[str, tuple[str, Callable[[Sequence[float]], float]]] = {
    "loss": ("lowest", min),
    "eer": ("lowest", min),
    "auc": ("highest", max),
    "rank1": ("highest", max),
}


@final
@dataclass(frozen=True, eq=False)
class RunComparison:
    """What :func:`compare_runs` found; printed, it is a table.

    Args:
        names: of the two runs.
        runs: the two.
        settings: those that differ, by their path in ``config.json``, with both values; None
            where a run has none.
        values: from the logs, the last of each and the best of those of which it is known which
            way is better, with both values.
        reports: of both on the same pictures; empty without pictures.
        differences: paired, of the first minus the second.

    Example:
        >>> nothing = RunComparison(("one", "other"), (Run(), Run()), {}, {"epochs": (8, 9)})
        >>> print(nothing)
                one  other
        epochs    8      9
    """

    names: tuple[str, str]
    runs: tuple[Run, Run]
    settings: dict[str, tuple[Any, Any]]
    values: dict[str, tuple[float | None, float | None]]
    reports: tuple[Report, ...] = ()
    differences: tuple[Difference, ...] = ()

    def curves(self, values: Sequence[str] = ("loss", "val_loss")) -> Axes:
        """The curves of both in one picture; see :func:`siamlearn.plots.training_compared`."""
        logs = {name: run.log for name, run in zip(self.names, self.runs, strict=True)}
        return plots.training_compared(logs, values=values)

    def __str__(self) -> str:
        rows = [[name, *map(_shown, pair)] for name, pair in self.settings.items()]
        rows += [[name, *map(_number, pair)] for name, pair in self.values.items()]
        return "\n".join([*_aligned([["", *self.names], *rows]), *map(str, self.differences)])


def compare_runs(
    one: Run | str | Path, other: Run | str | Path, *, images: ImageSet | None = None
) -> RunComparison:
    """Put two runs beside each other: settings that differ, logs, and errors on the same pictures.

    Args:
        one: a run, or its folder.
        other: the one to compare it with.
        images: pictures of people that neither was trained on; a warning says where one was.
            Both nets embed them, all pairs are compared, and the differences are paired: see
            :func:`siamlearn.differences`.

    Raises:
        ValueError: one of them is no run, or has no net yet that could embed the pictures.

    Example:
        >>> from siamlearn import DrawnFaces, fit
        >>> faces = DrawnFaces(3, 3, size=(12, 10))
        >>> runs = [fit(faces, epochs=epochs, callbacks=()) for epochs in (1, 2)]
        >>> compare_runs(*runs).values["epochs"]
        (1, 2)
    """
    runs = tuple(run if isinstance(run, Run) else load_run(run) for run in (one, other))
    names = _names(*runs)
    settings = [settings_of(run.config) if run.folder is not None else {} for run in runs]
    differing = {
        path: (settings[0].get(path), settings[1].get(path))
        for path in {**settings[0], **settings[1]}
        if settings[0].get(path) != settings[1].get(path)
    }
    found = [_values(run.log) for run in runs]
    values = {what: (found[0].get(what), found[1].get(what)) for what in {**found[0], **found[1]}}
    reports: tuple[Report, ...] = ()
    if images is not None:
        _warn_of_learned(runs, names, images)
        reports = tuple(
            evaluate(embed(run.net, images), baselines=False, audit=False, name=name)
            for run, name in zip(runs, names, strict=True)
        )
    paired = differences(*reports) if reports else ()
    return RunComparison(names, (runs[0], runs[1]), differing, values, reports, paired)


def _warn_of_learned(runs: Sequence[Run], names: Sequence[str], images: ImageSet) -> None:
    for run, name in zip(runs, names, strict=True):
        learned = known_by(run.net.trained_on, images.people)
        if learned:
            warnings.warn(
                f"{name} was trained on {len(learned)} of the {len(images.people)} people that it "
                f"is compared on, and does better on them than on others; compare on people of "
                f"their own",
                stacklevel=3,
            )


def _names(one: Run, other: Run) -> tuple[str, str]:
    """The shortest names that tell them apart."""
    if one.name != other.name:
        return one.name, other.name
    if one.folder is None or other.folder is None or one.folder == other.folder:
        return f"{one.name} (first)", f"{other.name} (second)"
    return str(one.folder), str(other.folder)


def _values(log: Sequence[dict[str, float]]) -> dict[str, float]:
    if not log:
        return {}
    last = log[-1]
    found = {f"{name}s": last[name] for name in ("epoch", "step") if name in last}
    for name in dict.fromkeys(name for row in log for name in row):
        if name in ("epoch", "step", "lr"):
            continue
        logged = [row[name] for row in log if row.get(name) is not None]
        found[name] = logged[-1]
        for end, (word, best) in BETTER.items():
            if name == end or name.endswith(f"_{end}"):
                found[f"{word} {name}"] = best(logged)
    return found


def _shown(setting: Any) -> str:
    text = MISSING if setting is None else str(setting)
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.4g}"


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    first, *others = widths
    return [
        "  ".join([name.ljust(first), *(c.rjust(w) for c, w in zip(cells, others, strict=True))])
        for name, *cells in rows
    ]
