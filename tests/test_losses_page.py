"""The page of the documentation that says which loss to take."""

import inspect
import re
from pathlib import Path

import pytest

from siamlearn.functional import mining
from siamlearn.nn import losses

PAGE = (Path(__file__).parents[1] / "docs/howto/losses.md").read_text(encoding="utf-8")
LOSSES = [
    name
    for name in losses.__all__
    if inspect.isclass(getattr(losses, name))
    and not inspect.isabstract(getattr(losses, name))
    and name != "Summand"  # what all of them are
]


@pytest.mark.parametrize("name", [*LOSSES, *mining.__all__])
def test_it_names_every_loss_and_every_miner(name):
    assert re.search(rf"`{name}\b", PAGE)
