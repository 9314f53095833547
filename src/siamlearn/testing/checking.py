"""Whether a loss keeps the laws, in one line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import final

from torch import Tensor

from siamlearn.testing import laws as all_laws
from siamlearn.testing.laws import Law
from siamlearn.testing.trials import Loss, Trial, name_of

__all__ = ["LAWS", "Checked", "check_loss"]

LAWS: tuple[Law, ...] = (
    all_laws.hard_batches,
    all_laws.extreme_scales,
    all_laws.gradient_of_small_steps,
    all_laws.order_of_the_batch,
    all_laws.names_of_identities,
    all_laws.rows_of_pairs,
    all_laws.half_precision,
    all_laws.autocast,
    all_laws.compilation,
)
"""All laws of a loss in one process; those of several are in ``check_distributed``."""


@final
@dataclass(frozen=True)
class Checked:
    """Which laws a loss was found to keep.

    Attributes:
        held: the names of those that hold.
        silent: those that say nothing of this loss, or not all that they could, and why.

    Example:
        >>> print(Checked(("autocast",), {"rows of pairs": "only a PairLoss has them"}))
        autocast: holds
        rows of pairs: only a PairLoss has them
    """

    held: tuple[str, ...]
    silent: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def __str__(self) -> str:
        """One line a law."""
        lines = [f"{name}: holds" for name in self.held]
        return "\n".join([*lines, *(f"{name}: {why}" for name, why in self.silent.items())])


def check_loss(
    loss: Loss,
    *,
    embeddings: Tensor | None = None,
    labels: Tensor | None = None,
    laws: Iterable[Law] = LAWS,
    compile: bool = True,
) -> Checked:
    """Prove that a loss keeps the laws that the losses of this package keep.

    The loss is copied for each try, and stays as it is. It is tried on the CPU: in float64 where
    digits count.

    Args:
        loss: from embeddings and labels to a number: a ``PairLoss``, another module, a function.
        embeddings: of shape (n, d), to begin with; twelve of eight dimensions if left out.
        labels: of shape (n,), with several identities of several pictures; 0 to 3 if left out.
        laws: functions of ``siamlearn.testing.laws``; some laws are not meant for some losses.
        compile: whether it must be possible to compile it in one graph, which takes seconds.

    Returns:
        What was found to hold, and what says nothing of this loss.

    Raises:
        LawBroken: with the first law that the loss does not keep: an ``AssertionError``.
        ValueError: where the loss cannot be tried on such a batch.

    Example:
        >>> def length(embeddings, labels):
        ...     return embeddings.float().square().sum()
        >>> "gradient of small steps" in check_loss(length, compile=False).held
        True
        >>> from siamlearn.testing import LawBroken
        >>> try:
        ...     check_loss(lambda x, labels: x.norm(dim=1).log().sum(), compile=False)
        ... except LawBroken as error:
        ...     print(error)
        hard batches: the loss of some embeddings zero is -inf; one such batch ends a training
    """
    trial = Trial(loss, embeddings, labels)
    trial.first()
    held, silent = [], {}
    for law in laws:
        if law is all_laws.compilation and not compile:
            silent[name_of(law)] = "left out"
            continue
        why = law(trial)
        if why is None:
            held.append(name_of(law))
        else:
            silent[name_of(law)] = why
    return Checked(tuple(held), silent)
