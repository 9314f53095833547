from types import SimpleNamespace

import pytest
import torch

from figures import curve
from siamlearn.plots import range_test, training_curves

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


def test_a_range_test_is_two_curves_and_a_line_at_the_suggestion():
    tried = {"rates": [0.01, 0.1, 1.0], "losses": [1.0, 0.7, 0.9], "smoothed": [1.0, 0.8, 0.8]}
    ax = range_test(SimpleNamespace(**tried, suggestion=0.1))
    assert curve(ax, "each step")[1].tolist() == tried["losses"]
    assert curve(ax, "smoothed")[1].tolist() == tried["smoothed"]
    assert curve(ax, "suggested, 0.1")[0].tolist() == [0.1, 0.1]
    assert ax.get_xscale() == "log"
    assert len(range_test(SimpleNamespace(**tried, suggestion=None)).lines) == 2


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (torch.ones(3), "of rows, as trainer.log has them, got Tensor"),
        ("log.csv", "of rows, as trainer.log has them, got str"),
        ([0.5, 0.4], "names its values, as in trainer.log, got float"),
    ],
)
def test_what_is_no_log_is_refused_in_words(log, message):
    with pytest.raises(TypeError, match=message):
        training_curves(log)
