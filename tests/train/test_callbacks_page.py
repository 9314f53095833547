"""The page of the documentation that lists all callbacks."""

import inspect
import re
from pathlib import Path

import pytest

import siamlearn
from siamlearn.train.callbacks import Callback

PAGE = (Path(__file__).parents[2] / "docs/howto/callback.md").read_text(encoding="utf-8")
CALLBACKS = [
    name
    for name in siamlearn.__all__
    if inspect.isclass(thing := getattr(siamlearn, name))
    and issubclass(thing, Callback)
    and thing is not Callback
]


@pytest.mark.parametrize("name", CALLBACKS)
def test_its_table_has_every_callback(name):
    assert re.search(rf"^\| .*`sl\.{name}\(", PAGE, re.MULTILINE)
