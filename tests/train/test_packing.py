"""State to JSON and back, exactly."""

import json
import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from siamlearn.train.packing import pack, unpack

NUMBERS = st.integers() | st.floats(allow_nan=False) | st.booleans() | st.none()
KEYS = st.text(max_size=8) | st.integers()
STATES = st.recursive(
    NUMBERS | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.sampled_from([{"$tuple": [1]}, {"$tensor": "x"}, Counter({3: 2, "a": 1})])
    ),
    max_leaves=12,
)


def kinds(state):
    """A state with the type of everything in it, for 1 == 1.0 == True and [1] != (1,)."""
    if isinstance(state, dict):
        return type(state), [(key, kinds(entry)) for key, entry in state.items()]
    if isinstance(state, list | tuple):
        return type(state), [kinds(entry) for entry in state]
    return type(state), repr(state)


@given(STATES)
def test_any_state_comes_back_as_it_was(state):
    packed, tensors = pack(state)
    assert kinds(unpack(json.loads(json.dumps(packed, allow_nan=False)), tensors)) == kinds(state)


def test_what_is_not_finite_comes_back():
    packed, _ = pack([math.nan, math.inf, -math.inf])
    back = unpack(json.loads(json.dumps(packed, allow_nan=False)), {})
    assert math.isnan(back[0])
    assert back[1:] == [math.inf, -math.inf]


def test_tensors_are_named_by_where_they_are_and_copied():
    weight = torch.arange(6).view(2, 3).T
    packed, tensors = pack({"state": {0: {"mean": weight}}}, name="optimizer")
    weight += 1

    assert list(tensors) == ["optimizer/state/0/mean"]
    assert tensors["optimizer/state/0/mean"].is_contiguous()
    assert torch.equal(unpack(packed, tensors)["state"][0]["mean"], weight - 1)


def test_two_tensors_of_one_name_are_kept_apart():
    state = {"a/b": torch.ones(1), "a": {"b": torch.zeros(1)}}
    packed, tensors = pack(state)
    back = unpack(packed, tensors)
    assert (back["a/b"].item(), back["a"]["b"].item()) == (1, 0)


@pytest.mark.parametrize("value", [{1, 2}, b"bytes", object, 1j, lambda: 0])
def test_anything_else_is_refused_with_its_place(value):
    with pytest.raises(TypeError, match=r"callbacks/Mine/1 is a .*, which cannot be saved"):
        pack({"callbacks": {"Mine": [0, value]}})


def test_a_key_that_json_would_change_is_refused():
    with pytest.raises(TypeError, match=r"seen has the key \(1, 2\)"):
        pack({"seen": {(1, 2): 3}})
