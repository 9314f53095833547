"""What a batch may be compared with besides itself.

Axes: n pictures of a batch, c classes (identities that are trained on), k centres of each,
d embedding dimensions, r references.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from siamlearn.functional.pairings import References, itself
from siamlearn.nn.settings import at_least_one
from siamlearn.scattering import scattered

__all__ = ["Memory", "Proxies"]


@final
class Proxies(nn.Module):
    """One learned vector for each identity, or several, to stand for all pictures of it.

    Labels must be 0, 1, ... up to the number of classes. The vectors are parameters, under
    ``vectors``, class by class: a :class:`~siamlearn.train.trainer.Trainer` puts them into the
    optimizer by itself.

    With ``sample``, a step looks at that share of the classes only: at those of the batch, and at
    others drawn by chance, anew in each step, so that a million identities can be trained on.
    What is drawn depends on ``seed`` and on how many steps there were, which is saved with the
    vectors. In evaluation mode all classes are looked at. Other people, such as those whose loss is
    to be validated, have no proxies: evaluate their embeddings instead.

    Args:
        classes: how many identities there are.
        dimensions: of the embeddings.
        centres: vectors of each identity, for losses that let it look several ways.
        sample: share of the classes to look at in a step, above 0 and below 1; all if left out.
            It is rounded up, and never fewer than the pictures of the batch.
        seed: of the first vectors and of the samples; the global generators are left alone.
        sparse: give the sampled vectors a sparse gradient, so that a step costs nothing for the
            others. ``SGD`` without weight decay, ``Adagrad`` and ``SparseAdam`` take it; torch's
            other optimizers say that they do not. A Trainer gives them no momentum.

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
        Machine, arXiv:2010.05222, sec. 3, where the number of samples may change with the batch;
        An et al.: Killing Two Birds with One Stone: Efficient and Robust Training of Face
        Recognition CNNs by Partial FC, CVPR 2022, for how small a share is enough: a tenth.
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
        at_least_one("classes", classes, "each has a vector")
        at_least_one("dimensions", dimensions, "of the embeddings")
        at_least_one("centres", centres, "of each class")
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
        wide = torch.promote_types(vectors.dtype, embeddings.dtype)
        return References(vectors.to(wide), names)

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
        hashed = scattered(classes ^ scattered(self.steps ^ scattered(self.steps * 0 + self.seed)))
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
        elif labels.device.type != "cpu":
            # To say which one would be waiting; the device stops by itself.
            torch._assert_async(((labels >= 0) & (labels < self.classes)).all())
        elif not torch.compiler.is_compiling():
            strange = labels[(labels < 0) | (labels >= self.classes)]
            if len(strange):
                msg = (
                    f"labels must be from 0 to {self.classes - 1}, one for each of the classes of "
                    f"the proxies, got {strange[0].item()}; number the identities anew, for "
                    "all pictures at once: labels.unique(return_inverse=True)[1]"
                )
                raise ValueError(msg)


@final
class Memory(nn.Module):
    """The latest batches, to compare the next one with: many references that cost no forward pass.

    A batch is written over the oldest entries, and then compared with all that is remembered, its
    own newest copies included, of which no picture meets its own. What is remembered is constant:
    a loss moves the batch alone. In evaluation mode nothing is written, and the batch is compared
    with itself, since the pictures there may be of other people with the same labels.

    All that is remembered is saved with the loss, so that a run that is resumed goes on as if it
    had not been cut off. On several ranks, a loss of ours gathers the batches first, so that all
    remember the same pictures in the same order. Two losses need two memories. Until it is full,
    ``torch.compile`` captures it anew in each step.

    Args:
        size: how many pictures are remembered; no batch may be larger.
        warm_up: how many batches at first are compared with themselves alone, and not remembered,
            since embeddings still change too fast.
        dimensions: of the embeddings; those of the first batch if left out.

    Raises:
        ValueError: where a number is out of range, or a batch has more pictures than ``size``.

    Example:
        >>> memory = Memory(size=3)
        >>> _ = memory(torch.tensor([[0.0], [1.0]]), torch.tensor([7, 8]))
        >>> memory(torch.tensor([[2.0], [3.0]]), torch.tensor([9, 7]))
        References(embeddings=tensor([[3.],
                [1.],
                [2.]]), labels=tensor([7, 8, 9]), own=tensor([2, 0]))

    Source:
        Wang et al.: Cross-Batch Memory for Embedding Learning, CVPR 2020, arXiv:1912.06798,
        sec. 3.2 and its pseudo-code; the batch in the warm-up has a gradient on both sides.
    """

    def __init__(self, size: int, *, warm_up: int = 0, dimensions: int | None = None) -> None:
        super().__init__()
        at_least_one("size", size, "pictures are remembered")
        if warm_up < 0:
            msg = f"warm_up must be at least 0 batches, got {warm_up}"
            raise ValueError(msg)
        if dimensions is not None:
            at_least_one("dimensions", dimensions, "of the embeddings")
        self.size, self.warm_up, self.dimensions = size, warm_up, dimensions
        self.vectors: Tensor
        self.labels: Tensor
        self.pointer: Tensor
        self.register_buffer("vectors", torch.zeros(size, dimensions or 0))
        self.register_buffer("labels", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))
        self.filled: Tensor
        self.warmed: Tensor
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))
        self.register_buffer("warmed", torch.zeros((), dtype=torch.int64))
        # The same as numbers: reading a buffer would be waiting for the device.
        self._filled = self._warmed = 0
        self._replaced: list[tuple[Tensor, Tensor, Tensor]] | None = None

    def forward(
        self, embeddings: Float[Tensor, "n d"], labels: Shaped[Tensor, "n *k"]
    ) -> References:
        """Remember a batch, and give what it is to be compared with."""
        if not self.training:
            return itself(embeddings, labels)
        if self._warmed < self.warm_up:
            self._warmed += 1
            self.warmed.fill_(self._warmed)
            return itself(embeddings, labels)
        n = len(embeddings)
        if n > self.size:
            msg = f"a memory must hold a whole batch, got {n} pictures for size={self.size}"
            raise ValueError(msg)
        self._make_room(embeddings, labels)
        own = (self.pointer + torch.arange(n, device=self.pointer.device)) % self.size
        for ring, rows in ((self.vectors, embeddings.detach()), (self.labels, labels)):
            if self._replaced is not None:
                self._replaced.append((ring, own, ring.index_select(0, own)))
            ring.index_copy_(0, own, rows.to(ring.dtype))
        self.pointer.add_(n).remainder_(self.size)
        self._filled = min(self.size, self._filled + n)
        self.filled.fill_(self._filled)
        return References(self.vectors[: self._filled], self.labels[: self._filled], own)

    @contextmanager
    def noted(self) -> Iterator[Callable[[], None]]:
        """Note what batches are written over meanwhile, and give what puts it back, also later.

        Example:
            >>> memory = Memory(size=3)
            >>> with memory.noted() as put_back:
            ...     _ = memory(torch.ones(2, 1), torch.tensor([7, 8]))
            >>> put_back()
            >>> memory.filled, memory.labels
            (tensor(0), tensor([0, 0, 0]))
        """
        held = {name: getattr(self, name) for name in self._buffers}
        numbers = self._filled, self._warmed
        counters = [(buffer, buffer.clone()) for buffer in held.values() if buffer.ndim == 0]
        replaced: list[tuple[Tensor, Tensor, Tensor]] = []
        self._replaced = replaced

        def put_back() -> None:
            # The latest first: in a small memory, two batches may be written to one place.
            for ring, own, rows in reversed(replaced):
                ring.index_copy_(0, own, rows)
            for name, buffer in held.items():
                setattr(self, name, buffer)
            for buffer, value in counters:
                buffer.copy_(value)
            self._filled, self._warmed = numbers

        try:
            yield put_back
        finally:
            self._replaced = None

    def extra_repr(self) -> str:
        """The settings, as they stand in ``repr``."""
        return f"size={self.size}" + (f", warm_up={self.warm_up}" if self.warm_up else "")

    def _make_room(self, embeddings: Tensor, labels: Tensor) -> None:
        """Buffers of the kind of this batch, where they are not yet."""
        if self._filled == 0:
            size, d = self.size, self.dimensions or embeddings.shape[1]
            kind = torch.promote_types(embeddings.dtype, torch.float32)
            several = labels.dtype == torch.bool
            self.pointer = self.pointer.to(embeddings.device)
            self.vectors = embeddings.new_zeros(size, d, dtype=kind)
            self.labels = labels.new_zeros(
                (size, *labels.shape[1:]), dtype=torch.bool if several else torch.int64
            )
        ours = self.vectors.shape[1:], self.labels.shape[1:]
        if ours != (embeddings.shape[1:], labels.shape[1:]):
            msg = (
                f"a memory of embeddings of shape {tuple(self.vectors.shape)} and labels of shape "
                f"{tuple(self.labels.shape)} cannot take a batch of {tuple(embeddings.shape)} and "
                f"{tuple(labels.shape)}"
            )
            raise ValueError(msg)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *how: Any) -> None:
        for name in ("vectors", "labels"):
            saved, ours = state_dict.get(prefix + name), getattr(self, name)
            # What a batch looks like is known to who saved it; the rest is checked as usual.
            known = ours.shape[1:] if name == "vectors" and self.dimensions else None
            if saved is not None and len(saved) == self.size and known in (None, saved.shape[1:]):
                setattr(self, name, torch.empty_like(saved, device=ours.device))
        super()._load_from_state_dict(state_dict, prefix, *how)
        self._filled, self._warmed = int(self.filled), int(self.warmed)
