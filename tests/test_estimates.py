import json
import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siamlearn.estimates import Estimate, shown


@pytest.mark.parametrize(
    ("value", "told"),
    [(Estimate(0.5, 0.4, 0.6), "50.0 % [40.0, 60.0]"), (Estimate(0.5), "50.0 %"), (0.5, "50.0 %")],
)
def test_a_rate_is_told_with_its_interval_where_it_has_one(value, told):
    assert shown(value, percent=True, digits=".1f") == told


@given(ends=st.lists(st.floats(-5, 5), min_size=3, max_size=3).map(sorted))
def test_text_and_per_cent_are_told_by_one_rule(ends):
    low, value, high = ends
    estimate = Estimate(value, low, high)

    assert str(estimate) == shown(estimate) == f"{value:.4g} [{low:.4g}, {high:.4g}]"
    assert estimate.percent() == shown(estimate, percent=True)
    assert estimate.percent().startswith(shown(value, percent=True))


@given(
    value=st.floats(allow_nan=False, allow_infinity=False), low=st.floats(-1, 1) | st.just(math.nan)
)
def test_what_was_saved_is_read_again(value, low):
    estimate = Estimate(value, low, 2.0, 0.9)

    for copy in (
        Estimate.from_dict(json.loads(json.dumps(estimate.to_dict(), allow_nan=False))),
        pickle.loads(pickle.dumps(estimate)),
    ):
        assert repr(copy) == repr(estimate)
