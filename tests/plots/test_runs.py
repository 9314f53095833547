import pytest

from figures import curve
from siamlearn.plots import training_compared

LOGS = {
    "one": [{"epoch": 1, "loss": 0.9, "val_loss": 1.0}, {"epoch": 2, "loss": 0.5}],
    "a run of which the name is too long to be read": [{"epoch": 1, "loss": 0.7}],
}


def test_each_run_has_a_colour_and_each_value_a_kind_of_line():
    ax = training_compared(LOGS)
    one, validated, other = ax.lines

    assert [line.get_label() for line in ax.lines] == [
        "one, training",
        "one, validation",
        "…e name is too long to be read, training",
    ]
    assert one.get_color() == validated.get_color() != other.get_color()
    assert one.get_linestyle() == other.get_linestyle() != validated.get_linestyle()
    assert curve(ax, "one, training")[1].tolist() == [0.9, 0.5]
    assert ax.get_ylim()[0] == 0


def test_a_loss_below_zero_is_not_cut_off():
    assert training_compared({"one": [{"epoch": 1, "loss": -0.5}]}).get_ylim()[0] < -0.5


def test_logs_without_a_value_and_too_many_values_are_refused():
    with pytest.raises(ValueError, match="a curve needs a row with auc, but none of the 2 logs"):
        training_compared(LOGS, values=["auc"])
    with pytest.raises(ValueError, match="up to 4 values can be told apart, got 5"):
        training_compared(LOGS, values="abcde")
