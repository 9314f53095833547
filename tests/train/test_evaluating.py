"""The net on people it is not trained on, while it is trained."""

import sys
import types

import pytest

from siamlearn.embeddings import embed
from siamlearn.evaluation import evaluate
from siamlearn.functional.distances import cosine
from siamlearn.train.callbacks import EarlyStopping
from siamlearn.train.evaluating import Evaluate, Plots

FIGURES = ["accuracy", "distances", "embeddings", "loss", "precision_recall", "roc"]


def test_evaluate_puts_rates_into_the_row_after_first_nth_and_last(tiny):
    images = tiny.pictures()
    callbacks = [Evaluate(images, every=3, distance=cosine), EarlyStopping("auc", largest=True)]
    trainer = tiny.trainer(callbacks=callbacks).fit(tiny.batches(number=2), epochs=5)
    assert [row["epoch"] for row in trainer.log if "auc" in row] == [1, 3, 5]
    report = evaluate(embed(trainer.net, images, distance=cosine), baselines=False)
    last = {name: trainer.log[-1][name] for name in ("auc", "eer", "rank1")}
    assert last == {"auc": report.auc, "eer": report.eer, "rank1": report.rank1}


def test_evaluating_and_drawing_change_no_weight(tiny, tmp_path):
    images = tiny.pictures()

    def weights(*callbacks):
        trainer = tiny.trainer(callbacks=callbacks).fit(tiny.batches(), epochs=2)
        return {name: value.tolist() for name, value in trainer.net.state_dict().items()}

    assert weights(Evaluate(images), Plots(images, tmp_path)) == weights()


def test_plots_are_saved_for_each_epoch_that_is_due(tiny, tmp_path):
    plots = Plots(tiny.pictures(), tmp_path / "plots", every=2)
    tiny.trainer(callbacks=[plots]).fit(tiny.batches(number=1), epochs=3)
    folders = sorted((tmp_path / "plots").iterdir())
    assert [folder.name for folder in folders] == ["epoch-0001", "epoch-0002", "epoch-0003"]
    for folder in folders:
        assert sorted(path.stem for path in folder.iterdir()) == FIGURES
        assert all(path.read_bytes().startswith(b"\x89PNG") for path in folder.iterdir())


def test_plots_are_shown_in_a_notebook(tiny, monkeypatch):
    # Not our code: what a notebook has, as far as it is asked for.
    shown = []
    notebook = types.SimpleNamespace(
        get_ipython=lambda: "a shell", display=types.SimpleNamespace(display=shown.append)
    )
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    plots = Plots(tiny.pictures(), show=True)
    tiny.trainer(callbacks=[plots]).fit(tiny.batches(number=1), epochs=1)
    assert [type(figure).__name__ for figure in shown] == ["Figure"] * len(FIGURES)


def test_plots_for_nobody_and_outside_of_a_notebook_are_refused(tiny, monkeypatch):
    with pytest.raises(ValueError, match="neither saved nor shown"):
        Plots(tiny.pictures())
    monkeypatch.setitem(sys.modules, "IPython", None)
    with pytest.raises(ValueError, match="show=True shows figures in a notebook"):
        Plots(tiny.pictures(), show=True)


@pytest.mark.parametrize("kind", [Evaluate, lambda images, every: Plots(images, "x", every=every)])
def test_every_is_at_least_one(tiny, kind):
    with pytest.raises(ValueError, match="every must be at least 1 epoch, got 0"):
        kind(tiny.pictures(), every=0)


def test_without_matplotlib_plots_say_so_before_training(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "siamlearn\[plots\]"'):
        Plots(tiny.pictures(), "x")
