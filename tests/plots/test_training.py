import pytest

from figures import curve
from siamlearn.plots import training_curves

LOG = [
    {"epoch": 1, "loss": 0.9, "val_loss": 1.0},
    {"epoch": 2, "loss": 0.5, "lr": 0.1},
    {"epoch": 3, "loss": 0.4, "val_loss": 0.6},
    {"epoch": 4, "loss": 0.3, "val_loss": 0.7},
]


def test_training_curves_are_the_rows_that_have_the_value():
    ax = training_curves(LOG)
    assert curve(ax, "training")[1].tolist() == [0.9, 0.5, 0.4, 0.3]
    assert curve(ax, "validation")[0].tolist() == [1, 3, 4]
    assert curve(ax, "lowest, epoch 3") == ([3], [0.6])
    assert ax.get_ylim()[0] == 0


def test_other_columns_of_the_log_can_be_drawn():
    assert curve(training_curves(LOG, values=["lr"]), "lr")[1].tolist() == [0.1]


def test_a_loss_below_zero_is_not_cut_off():
    assert training_curves([{"epoch": 1, "loss": -0.5}]).get_ylim()[0] < -0.5


@pytest.mark.parametrize("log", [[], [{"epoch": 1}], [{"epoch": 1, "loss": None}]])
def test_a_log_without_a_loss_is_refused(log):
    with pytest.raises(ValueError, match="a curve needs a row with loss or val_loss"):
        training_curves(log)
