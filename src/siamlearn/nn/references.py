"""What a batch may be compared with besides itself.

Axes: n pictures of a batch, c classes (identities that are trained on), k centres of each,
d embedding dimensions, r references.
"""

import math
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from siamlearn.functional.pairings import References

__all__ = ["Proxies"]


@final
class Proxies(nn.Module):
    """One learned vector for each identity, or several, to stand for all pictures of it.

    Labels must be 0, 1, ... up to the number of classes. The vectors are parameters, under
    ``vectors``, class by class: a :class:`~siamlearn.train.trainer.Trainer` puts them into the
    optimizer by itself.

    With ``sample``, a step looks at that share of the classes only: at those of the batch, and at
    others drawn by chance, anew in each step, so that a million identities can be trained on.
    What is drawn depends on ``seed`` and on how many steps there were, which is saved with the
    vectors. In evaluation mode all classes are looked at.

    Args:
        classes: how many identities there are.
        dimensions: of the embeddings.
        centres: vectors of each identity, for losses that let it look several ways.
        sample: share of the classes to look at in a step, above 0 and below 1; all if left out.
            It is rounded up, and never fewer than the pictures of the batch.
        seed: of the first vectors and of the samples; the global generators are left alone.
        sparse: give the sampled vectors a sparse gradient, so that a step costs nothing for the
            others. Of torch's optimizers ``SGD`` without weight decay and ``SparseAdam`` take it;
            the others say that they do not.

    Raises:
        ValueError: where a number is out of range, a label is not one of the classes, or
            ``sparse`` comes without ``sample``.

    Example:
        >>> proxies = Proxies(classes=3, dimensions=2)
        >>> embeddings, labels, own = proxies(torch.ones(4, 2), torch.tensor([0, 2, 1, 1]))
        >>> embeddings.shape, labels
        (torch.Size([3, 2]), tensor([0, 1, 2]))

    Source:
        Movshovitz-Attias et al.: No Fuss Distance Metric Learning using Proxies, ICCV 2017,
        sec. 3; the samples: An et al.: Partial FC: Training 10 Million Identities on a Single
        Machine, arXiv:2010.05222, sec. 3, where the number of samples may change with the batch.
    """

    def __init__(
        self,
        classes: int,
        dimensions: int,
        *,
        centres: int = 1,
        sample: float | None = None,
        seed: int = 0,
        sparse: bool = False,
    ) -> None:
        super().__init__()
        for name, value in {
            "classes": classes,
            "dimensions": dimensions,
            "centres": centres,
        }.items():
            if value < 1:
                msg = f"{name} must be at least 1, got {value}"
                raise ValueError(msg)
        if sample is not None and not 0 < sample < 1:
            msg = (
                f"sample must be a share of the classes above 0 and below 1, got {sample}; leave "
                "it out to look at all of them"
            )
            raise ValueError(msg)
        if sparse and sample is None:
            msg = "sparse needs a sample: where all vectors are looked at, none has no gradient"
            raise ValueError(msg)
        self.classes, self.dimensions, self.centres = classes, dimensions, centres
        self.sample, self.seed, self.sparse = sample, seed, sparse
        generator = torch.Generator().manual_seed(seed)
        vectors = torch.randn(classes * centres, dimensions, generator=generator)
        self.vectors = nn.Parameter(F.normalize(vectors))
        self.steps: Tensor
        if sample is not None:
            self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(
        self, embeddings: Float[Tensor, "n d"], labels: Shaped[Tensor, "n *c"]
    ) -> References:
        """The vectors to compare a batch with, and whose they are.

        Args:
            labels: from 0 to the number of classes; or, without ``sample``, true where a picture
                shows a class, of shape (n, classes).
        """
        self._check(embeddings, labels)
        if self.sample is None or not self.training:
            chosen = torch.arange(self.classes, device=labels.device)
            # A view: a loss may also reach the parameter itself, and both gradients shall count.
            vectors = self.vectors.view_as(self.vectors)
        else:
            chosen = self._sampled(labels)
            place = chosen[:, None] * self.centres
            place = (place + torch.arange(self.centres, device=place.device)).flatten()
            vectors = F.embedding(place, self.vectors, sparse=self.sparse)
        names = chosen.repeat_interleave(self.centres)
        if labels.dtype == torch.bool:
            names = F.one_hot(names, self.classes).bool()
        return References(vectors, names)

    def extra_repr(self) -> str:
        """The settings, as they stand in ``repr``."""
        settings = {"centres": self.centres, "sample": self.sample, "sparse": self.sparse}
        usual = {"centres": 1, "sample": None, "sparse": False}
        said = [f", {name}={value}" for name, value in settings.items() if value != usual[name]]
        return f"classes={self.classes}, dimensions={self.dimensions}{''.join(said)}"

    def _sampled(self, labels: Int[Tensor, " n"]) -> Int[Tensor, " r"]:
        """The classes of the batch and others by chance, in order; always as many."""
        assert self.sample is not None
        number = min(self.classes, max(math.ceil(self.sample * self.classes), len(labels)))
        classes = torch.arange(self.classes, device=labels.device)
        # A hash of class, step and seed instead of a generator: the step stays on the device, and
        # every device draws the same. The class in the last bits lets no two be equal.
        hashed = _scattered(
            classes ^ _scattered(self.steps ^ _scattered(self.steps * 0 + self.seed))
        )
        ticket = (hashed << 31 | classes).index_fill(0, labels.long(), torch.iinfo(torch.int64).max)
        self.steps += 1
        return ticket.topk(number, sorted=False).indices.sort().values

    def _check(self, embeddings: Tensor, labels: Tensor) -> None:
        if embeddings.shape[1] != self.dimensions:
            msg = (
                f"embeddings must have as many dimensions as the proxies, {self.dimensions}, got "
                f"{embeddings.shape[1]}"
            )
            raise ValueError(msg)
        if labels.dtype == torch.bool:
            if labels.shape[1] != self.classes or self.sample is not None:
                msg = (
                    f"labels of yes and no need one column for each of the {self.classes} classes, "
                    f"and proxies without sample; got shape {tuple(labels.shape)} and "
                    f"sample={self.sample}"
                )
                raise ValueError(msg)
        elif labels.device.type == "cpu" and not torch.compiler.is_compiling():
            # On other devices this would be waiting.
            strange = labels[(labels < 0) | (labels >= self.classes)]
            if len(strange):
                msg = (
                    f"labels must be from 0 to {self.classes - 1}, one for each of the classes of "
                    f"the proxies, got {strange[0].item()}; number the identities anew"
                )
                raise ValueError(msg)


def _scattered(number: Int[Tensor, "*n"]) -> Int[Tensor, "*n"]:
    """Whole numbers to 32 bits that look drawn by chance: the finalizer of MurmurHash3."""
    low = 2**32 - 1
    number = number & low
    number = ((number ^ (number >> 16)) * 0x85EBCA6B) & low
    number = ((number ^ (number >> 13)) * 0xC2B2AE35) & low
    return number ^ (number >> 16)
