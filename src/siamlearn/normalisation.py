"""Distances in units of how far strangers are: score normalisation against a cohort.

Some pictures are near to everybody, others to nobody, and one threshold cannot be right for both.
So a distance is measured by how far the pictures of a cohort, people who are neither tested nor
enrolled, are from the same picture: their mean becomes 0, their standard deviation 1.

Axes: c pictures of the cohort, d embedding dimensions, q queries, r references.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import final
from weakref import ref

import torch
from jaxtyping import Float
from torch import Tensor

from siamlearn.embeddings import Embeddings
from siamlearn.functional.pairs import Distance
from siamlearn.known import known, known_by
from siamlearn.wording import some

__all__ = ["Normalised", "as_norm", "require_strangers", "s_norm", "t_norm", "z_norm"]

# Distances to the cohort that are held at once: 16 MiB of float32.
BLOCK = 2**22


@final
class Normalised:
    """A distance relative to those of a cohort; see ``s_norm`` and its like, which make it.

    It is called like any distance, and goes wherever one goes: ``replace(embeddings,
    distance=...)``. Smaller is closer; values may be below 0, and a picture is not at 0 from
    itself. With m and s the mean and the standard deviation of the distances from a picture to
    the cohort, a distance D becomes (D - m) / s, and where both sides count the mean of the two.
    It knows the cohort's people by hashes of their names, so that none of them is tested with it.

    Args:
        cohort: embeddings of people who are neither tested nor enrolled; their distance is the
            one that is normalised.
        queries: whether the cohort's distances from the query count.
        references: whether those from the reference count.
        nearest: take only so many pictures of the cohort, those nearest to each picture.

    Raises:
        ValueError: neither side counts, the cohort shows fewer than two people, or it has not
            ``nearest`` pictures.

    Example:
        >>> line, labels = torch.tensor([[0.0], [2.0]]), torch.tensor([0, 1])
        >>> cohort = Embeddings(line, labels, ("anna", "bob"), ("1.png", "2.png"))
        >>> distance = Normalised(cohort, queries=True, references=False)
        >>> distance(torch.tensor([[4.0]]), torch.tensor([[4.0], [7.0]]))  # cohort at 4 and 2
        tensor([[-3.,  0.]])
    """

    def __init__(
        self,
        cohort: Embeddings,
        *,
        queries: bool = True,
        references: bool = True,
        nearest: int | None = None,
    ) -> None:
        if not (queries or references):
            msg = "a normalised distance needs queries, references or both to count, got neither"
            raise ValueError(msg)
        if len(cohort.people) < 2:
            msg = (
                f"a cohort shows at least two people, got {len(cohort.people)}; take some tens of "
                f"people who are neither tested nor enrolled"
            )
            raise ValueError(msg)
        if nearest is not None and not 2 <= nearest <= len(cohort):
            msg = (
                f"nearest must be at least 2 and at most the {len(cohort):,} pictures of the "
                f"cohort, got {nearest}; without it all of them count"
            )
            raise ValueError(msg)
        self.distance: Distance = cohort.distance
        self.cohort: Float[Tensor, "c d"] = cohort.vectors
        # Those of a distance that is normalised already count, too.
        inner = cohort.distance.people if isinstance(cohort.distance, Normalised) else ()
        self.people: tuple[str, ...] = tuple(sorted({*known(cohort.people), *inner}))
        self.queries, self.references, self.nearest = queries, references, nearest
        # Of the last block's references, which are mostly those of the next one too.
        self._last: tuple[ref[Tensor], int, Tensor, Tensor] | None = None

    def __repr__(self) -> str:
        inner = getattr(self.distance, "__name__", type(self.distance).__name__)
        sides = {(True, True): "s_norm", (True, False): "t_norm", (False, True): "z_norm"}
        kind = sides[self.queries, self.references] if self.nearest is None else "as_norm"
        nearest = "" if self.nearest is None else f", {self.nearest} nearest"
        return f"{kind}({inner}, {len(self.people)} people, {len(self.cohort)} pictures{nearest})"

    def __call__(
        self, queries: Float[Tensor, "q d"], references: Float[Tensor, "r d"]
    ) -> Float[Tensor, "q r"]:
        """The normalised distance of every query to every reference."""
        distance = self.distance(queries, references)
        scaled = []
        if self.queries:
            mean, spread = self._strangers(queries, of_references=False)
            scaled.append((distance - mean[:, None]) / spread[:, None])
        if self.references:
            mean, spread = self._of_references(references)
            scaled.append((distance - mean) / spread)
        return torch.stack(scaled).mean(dim=0) if len(scaled) > 1 else scaled[0]

    def seen(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those of these identities that are in the cohort, and so may not be tested with it.

        Example:
            >>> line, labels = torch.tensor([[0.0], [2.0]]), torch.tensor([0, 1])
            >>> cohort = Embeddings(line, labels, ("anna", "bob"), ("1.png", "2.png"))
            >>> Normalised(cohort).seen(("bob", "carl"))
            ('bob',)
        """
        return known_by(self.people, names)

    def _of_references(self, references: Tensor) -> tuple[Tensor, Tensor]:
        # Tensors of inference mode do not count their changes, and so are not remembered.
        version = -1 if references.is_inference() else references._version
        if self._last is not None:
            last, then, mean, spread = self._last
            if last() is references and then == version >= 0:
                return mean, spread
        mean, spread = self._strangers(references, of_references=True)
        if not mean.requires_grad:
            self._last = ref(references), version, mean, spread
        return mean, spread

    def _strangers(self, vectors: Tensor, *, of_references: bool) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the cohort's distances from each of these."""
        # Half precision is computed in float32, as it is by the distances.
        kind = torch.promote_types(vectors.dtype, torch.float32)
        cohort = self.cohort.to(vectors.device, kind)
        parts = []
        height = max(1, BLOCK // len(cohort))
        for start in range(0, len(vectors), height):
            part = vectors[start : start + height]
            # A distance need not be symmetric: each side keeps its place.
            there = self.distance(cohort, part).mT if of_references else self.distance(part, cohort)
            if self.nearest is not None:
                there = there.topk(self.nearest, dim=-1, largest=False).values
            spread, mean = torch.std_mean(there, dim=-1, correction=0)
            parts.append(torch.stack([mean, spread]))
        mean, spread = torch.cat(parts, dim=-1)
        # Where all the cohort is equally far there is no unit: the distances then stay finite.
        return mean, spread.maximum(1e-6 * mean.abs()).clamp(min=1e-30)


def require_strangers(distance: Distance, names: Iterable[str], *, what: str = "tested") -> None:
    """Refuse a normalised distance whose cohort has some of these people.

    The distances of a person who is in the cohort are among those that they are measured by: they
    come out better than those of people who are not.

    Args:
        distance: any; only one that is normalised is asked.
        names: of the people.
        what: what is done with them, for the message.

    Example:
        >>> line, labels = torch.tensor([[0.0], [2.0]]), torch.tensor([0, 1])
        >>> cohort = Embeddings(line, labels, ("anna", "bob"), ("1.png", "2.png"))
        >>> require_strangers(s_norm(cohort), ("bob", "carl"))
        Traceback (most recent call last):
        ValueError: a cohort must be of people who are neither tested nor enrolled, but 1 of ...
    """
    if not isinstance(distance, Normalised):
        return
    names = tuple(dict.fromkeys(names))
    shared = distance.seen(names)
    if shared:
        msg = (
            f"a cohort must be of people who are neither tested nor enrolled, but {len(shared)} of "
            f"the {len(names)} {what} ones ({some(shared)}) are in that of {distance}: their "
            f"distances would flatter; make the cohort of others, with images.split_identities()"
        )
        raise ValueError(msg)


def z_norm(cohort: Embeddings) -> Normalised:
    """Distances relative to how far the cohort is from the reference, the enrolled picture.

    They are not symmetric: without a gallery each pair counts in one of its two directions.

    Example:
        >>> line, labels = torch.tensor([[0.0], [2.0]]), torch.tensor([0, 1])
        >>> cohort = Embeddings(line, labels, ("anna", "bob"), ("1.png", "2.png"))
        >>> z_norm(cohort)(torch.tensor([[7.0]]), torch.tensor([[4.0]]))  # cohort at 4 and 2
        tensor([[0.]])

    Source:
        Reynolds: Comparison of background normalization methods for text-independent speaker
        verification, Eurospeech 1997; for distances, whose sign is the other way round.
    """
    return Normalised(cohort, queries=False)


def t_norm(cohort: Embeddings) -> Normalised:
    """Distances relative to how far the cohort is from the query, the picture asked about.

    It cannot change who is nearest to a picture, only whether that is near enough. It is not
    symmetric: without a gallery each pair counts in one of its two directions.

    Example:
        >>> line, labels = torch.tensor([[0.0], [2.0]]), torch.tensor([0, 1])
        >>> cohort = Embeddings(line, labels, ("anna", "bob"), ("1.png", "2.png"))
        >>> t_norm(cohort)(torch.tensor([[4.0]]), torch.tensor([[7.0]]))
        tensor([[0.]])

    Source:
        Auckenthaler, Carey, Lloyd-Thomas: Score Normalization for Text-Independent Speaker
        Verification Systems, Digital Signal Processing 10, 2000.
    """
    return Normalised(cohort, references=False)


def s_norm(cohort: Embeddings) -> Normalised:
    """The mean of ``z_norm`` and ``t_norm``: query and reference count alike.

    Example:
        >>> line, labels = torch.tensor([[0.0], [2.0]]), torch.tensor([0, 1])
        >>> cohort = Embeddings(line, labels, ("anna", "bob"), ("1.png", "2.png"))
        >>> s_norm(cohort)(torch.tensor([[4.0]]), torch.tensor([[7.0]]))  # 0 and (3 - 6) / 1
        tensor([[-1.5000]])

    Source:
        Kenny: Bayesian Speaker Verification with Heavy-Tailed Priors, Odyssey 2010.
    """
    return Normalised(cohort)


def as_norm(cohort: Embeddings, *, nearest: int) -> Normalised:
    """``s_norm`` with only those pictures of the cohort that are nearest, for each side its own.

    Those are the strangers that it could be taken for.

    Args:
        cohort: embeddings of people who are neither tested nor enrolled.
        nearest: how many of its pictures count; 200 to 400 of thousands are usual.

    Example:
        >>> line, labels = torch.tensor([[0.0], [2.0], [90.0]]), torch.tensor([0, 1, 2])
        >>> cohort = Embeddings(line, labels, ("anna", "bob", "carl"), ("1.png", "2.png", "3.png"))
        >>> as_norm(cohort, nearest=2)(torch.tensor([[4.0]]), torch.tensor([[7.0]]))
        tensor([[-1.5000]])

    Source:
        Cumani, Batzu, Colibro, Vair, Laface, Vasilakakis: Comparison of Speaker Recognition
        Approaches for Real Applications, Interspeech 2011; Matějka et al.: Analysis of Score
        Normalization in Multilingual Speaker Recognition, Interspeech 2017, AS-norm1.
    """
    return Normalised(cohort, nearest=nearest)
