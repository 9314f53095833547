"""Losses against learned proxies of identities (what they compute: ``functional.losses``)."""

from dataclasses import replace
from typing import final

from typing_extensions import Unpack

from siamlearn.functional import losses
from siamlearn.functional.centres import centre_merging
from siamlearn.functional.distances import cosine
from siamlearn.functional.pairings import references_first
from siamlearn.functional.pairs import Pairs, Terms
from siamlearn.nn.losses.pair_loss import Choices, PairLoss
from siamlearn.nn.references import Proxies
from siamlearn.nn.settings import above_zero, at_least_zero

__all__ = ["ProxyAnchorLoss", "ProxyNCALoss", "SoftTripleLoss"]


@final
class ProxyNCALoss(PairLoss):
    """Tell the proxy of a picture's identity from all others.

    See :func:`siamlearn.functional.losses.proxy_nca`.

    Args:
        temperature: squared distances are divided by it; a smaller one looks at nearer proxies.
        choices: see :class:`PairLoss`; ``references=Proxies(...)`` is needed.

    Raises:
        ValueError: where the temperature is not above zero, or there are no references.

    Example:
        >>> import torch
        >>> loss = ProxyNCALoss(references=Proxies(classes=10, dimensions=2))
        >>> loss(torch.eye(2), torch.tensor([3, 7])) > 0
        tensor(True)
    """

    needs_rivals = True

    def __init__(self, temperature: float = 1 / 9, **choices: Unpack[Choices]) -> None:
        super().__init__(cosine, **_with_references(choices))
        self.temperature = above_zero("temperature", temperature, "distances are divided by it")

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return losses.proxy_nca(pairs, temperature=self.temperature)


@final
class ProxyAnchorLoss(PairLoss):
    """Pull all pictures of an identity to its proxy, and push all others away.

    See :func:`siamlearn.functional.losses.proxy_anchor`. Its pairing is
    :func:`~siamlearn.functional.pairings.references_first`: the proxies are the rows, and the
    batch is what they are compared with.

    Args:
        margin: how similar positives, how dissimilar negatives shall be, in units of the cosine.
        scale: similarities are multiplied by it; a larger one looks at the hardest pictures.
        choices: see :class:`PairLoss`; ``references=Proxies(...)`` is needed.

    Raises:
        ValueError: where margin or scale is not above zero, or there are no references.

    Example:
        >>> import torch
        >>> loss = ProxyAnchorLoss(references=Proxies(classes=10, dimensions=2))
        >>> loss(torch.eye(2), torch.tensor([3, 7])) > 0
        tensor(True)
    """

    needs_rivals = True

    def __init__(
        self, margin: float = 0.1, *, scale: float = 32.0, **choices: Unpack[Choices]
    ) -> None:
        choices.setdefault("pairing", references_first)
        super().__init__(cosine, **_with_references(choices))
        self.margin = above_zero("margin", margin, "else nothing pushes negatives away")
        self.scale = above_zero("scale", scale, "similarities are multiplied by it")

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return losses.proxy_anchor(pairs, margin=self.margin, scale=self.scale)


@final
class SoftTripleLoss(PairLoss):
    """Tell identities apart of which each has several centres, and join those it does not need.

    See :func:`siamlearn.functional.losses.soft_triple` and
    :func:`siamlearn.functional.centres.centre_merging`.

    Args:
        margin: how much nearer the own identity shall be.
        scale: similarities are multiplied by it; a larger one looks at nearer identities.
        softness: of the choice among the centres of an identity.
        merging: the paper's tau: weight of the distances between them.
        choices: see :class:`PairLoss`; ``references=Proxies(..., centres=10)`` is needed.

    Raises:
        ValueError: where scale or softness is not above zero, margin or merging is below, there
            are no references, or centres of a sample of the classes shall merge.

    Example:
        >>> import torch
        >>> loss = SoftTripleLoss(references=Proxies(classes=10, dimensions=2, centres=3))
        >>> loss(torch.eye(2), torch.tensor([3, 7])) > 0
        tensor(True)
    """

    needs_rivals = True

    def __init__(
        self,
        margin: float = 0.01,
        *,
        scale: float = 20.0,
        softness: float = 0.1,
        merging: float = 0.2,
        **choices: Unpack[Choices],
    ) -> None:
        super().__init__(cosine, **_with_references(choices))
        self.margin = at_least_zero("margin", margin)
        at_least_zero("merging", merging)
        self.scale = above_zero("scale", scale, "similarities are multiplied by it")
        self.softness = above_zero("softness", softness, "distances are divided by it")
        proxies = self.references if isinstance(self.references, Proxies) else None
        self.centres = 1 if proxies is None else proxies.centres
        self.merging = merging if self.centres > 1 else 0.0
        if self.merging and proxies is not None and proxies.sample is not None:
            msg = "merging looks at the centres of all classes, not of a sample: pass merging=0"
            raise ValueError(msg)

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        found = losses.soft_triple(
            pairs,
            centres=self.centres,
            margin=self.margin,
            scale=self.scale,
            softness=self.softness,
        )
        if not self.merging:
            return found
        assert isinstance(self.references, Proxies)
        # Once for each picture: then it stays what it is in the mean over blocks and ranks.
        apart = centre_merging(self.references.vectors, centres=self.centres)
        return replace(found, total=found.total + self.merging * apart * found.count)


def _with_references(choices: Choices) -> Choices:
    if choices.get("references") is None:
        msg = (
            "a loss against proxies needs them: pass references=Proxies(classes, dimensions), with "
            "one class for each identity"
        )
        raise ValueError(msg)
    return choices
