"""A running average of the weights, which tells people apart better than the last weights do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor, nn

__all__ = ["Average"]


@final
class Average:
    """The exponential moving average of a net's weights and running statistics.

    At step t it keeps the share min(decay, (t - 1) / (t + 8)) of itself and takes the rest from
    the net: nothing is left of the weights before training, and little of the first steps.

    Args:
        net: whose weights are averaged, in place.
        decay: share of the average that is kept at each step, at least 0 and below 1.

    Raises:
        ValueError: when decay is out of its range.

    Example:
        >>> net = nn.Linear(1, 1, bias=False)
        >>> average = Average(net, decay=0.5)
        >>> for t, weight in enumerate([0.0, 8.0, 8.0], start=1):
        ...     _ = nn.init.constant_(net.weight, weight)
        ...     average.update(t)
        >>> with average.in_use():
        ...     net.weight.item()
        7.854545...

    Source:
        Polyak, Juditsky: Acceleration of Stochastic Approximation by Averaging, SIAM Journal on
        Control and Optimization 1992; exponential and with a warm-up, as is common since.
    """

    def __init__(self, net: nn.Module, *, decay: float) -> None:
        if not 0 <= decay < 1:
            msg = f"average must be at least 0 and below 1, got {decay}; try 0.99"
            raise ValueError(msg)
        self.net, self.decay = net, decay
        self.used = False
        # While the average is in use, the net's own weights; otherwise the average.
        self.other = {name: value.clone() for name, value in self._live()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights of a step, counted from 1, into the average."""
        new = 1 - min(self.decay, (step - 1) / (step + 8))
        for name, value in self._live():
            self.other[name].lerp_(value, new)

    def use(self) -> None:
        """Put the averaged weights into the net, unless they are there."""
        if not self.used:
            self._swap()

    def rest(self) -> None:
        """Put the net's own weights back into it, unless they are there."""
        if self.used:
            self._swap()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """The net has the averaged weights within; afterwards those that it had before."""
        before = self.used
        self.use()
        try:
            yield
        finally:
            if not before:
                self.rest()

    def state_dict(self) -> dict[str, Tensor]:
        """A copy of what is not in the net: while the average is in use, the net's own weights."""
        return {name: value.clone() for name, value in self.other.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back what ``state_dict`` gave in use, into a net that has the average again."""
        for name, value in self.other.items():
            value.copy_(state[name])
        self.used = True

    @torch.no_grad()
    def _swap(self) -> None:
        for name, value in self._live():
            own = value.clone()
            value.copy_(self.other[name])
            self.other[name].copy_(own)
        self.used = not self.used

    def _live(self) -> Iterator[tuple[str, Tensor]]:
        # Asked for each time: a net that was moved to another device has other tensors.
        seen: set[int] = set()
        for name, value in self.net.state_dict().items():
            # Weights that two modules share have two names, and are exchanged once.
            if value.is_floating_point() and (value.data_ptr() not in seen or not value.numel()):
                seen.add(value.data_ptr())
                yield name, value
