import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from siamlearn import plots
from siamlearn.plots import canvas as canvas_module
from siamlearn.plots.canvas import (
    MARKERS,
    PEOPLE,
    canvas,
    new_figure,
    save,
    short,
    thinned,
)


def test_given_axes_are_used_and_no_figure_is_made():
    ax = Figure().add_subplot()
    assert canvas(ax) is ax
    assert canvas(None) is not ax


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_a_figure_and_axes_on_it_are_saved_in_new_folders(tmp_path, suffix):
    ax = canvas(None, size=(2, 1))
    for k, drawn in enumerate((ax, ax.figure)):
        path = save(drawn, tmp_path / "new" / f"{k}.{suffix}", dpi=50)
        assert path.stat().st_size > 0
    if suffix == "png":
        with Image.open(path) as picture:
            assert picture.size == (100, 50)


def test_axes_on_no_figure_are_not_saved(tmp_path):
    ax = canvas(None)
    ax.remove()
    with pytest.raises(ValueError, match="a whole figure can be saved"):
        save(ax, tmp_path / "gone.png")


def test_a_page_of_sixty_three_people_repeats_no_colour_with_its_marker():
    looks = {(PEOPLE[k % len(PEOPLE)], MARKERS[k % len(MARKERS)]) for k in range(63)}
    assert len(looks) == 63


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.booleans())
def test_a_short_curve_loses_only_points_in_the_dot_of_the_one_before(steps, log):
    y = torch.tensor(steps, dtype=torch.float64).cumsum(0)
    x = torch.arange(len(y), dtype=torch.float64)
    kept_x, kept_y = thinned(x, y, log=log)
    assert kept_x.tolist() == x.tolist()
    assert kept_y.tolist() == y.tolist()


def test_a_long_curve_keeps_its_ends_and_its_shape():
    x = torch.linspace(0, 1, 200_001, dtype=torch.float64)
    kept_x, kept_y = thinned(x, x.square())
    assert (kept_x[0], kept_x[-1]) == (0, 1)
    assert len(kept_x) < 5_000
    assert kept_x.diff().max() < 2 / 2000
    assert kept_y.diff().max() < 2 / 2000


def test_a_logarithmic_curve_keeps_its_small_values():
    x = torch.linspace(0, 1, 200_001, dtype=torch.float64)
    assert (thinned(x, x, log=True)[0] < 1e-4).sum() > 10
    assert (thinned(x, x)[0] < 1e-4).sum() <= 2


@pytest.mark.parametrize("log", [False, True])
def test_a_curve_is_thinned_alike_in_pieces(monkeypatch, log):
    x = torch.linspace(0, 1, 10_001, dtype=torch.float64)
    whole = thinned(x, x.square(), log=log, cells=50)
    monkeypatch.setattr(canvas_module, "PIECE", 7)
    pieces = thinned(x, x.square(), log=log, cells=50)
    assert [a.tolist() for a in whole] == [b.tolist() for b in pieces]


def test_long_names_keep_their_end():
    assert short("folder/of/anna/3.png", 10) == "…nna/3.png"
    assert short("3.png", 10) == "3.png"


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "siamlearn\[plots\]"'):
        new_figure((1, 1))


def test_no_figure_imports_pyplot_or_leaves_one_open():
    program = (
        "import sys, torch, siamlearn.plots as plots\n"
        "assert 'matplotlib' not in sys.modules\n"
        "plots.training_curves([{'epoch': 1, 'loss': 1.0}])\n"
        "assert 'matplotlib' in sys.modules\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    "figure",
    [
        *(plots.roc, plots.det, plots.cmc, plots.precision_recall, plots.accuracy),
        *(plots.error_rates, plots.distance_histogram),
        *(plots.zoo, plots.worst_pairs, plots.people_distances),
        *(plots.reliability, plots.embedding_map, plots.embedding_maps),
        *(plots.faces, plots.overview),
    ],
    ids=lambda figure: figure.__name__,
)
def test_what_a_figure_is_not_of_is_refused_in_words(figure):
    with pytest.raises(
        TypeError, match=r"this figure draws an? \w+, as \w.*\) returns it, got list"
    ):
        figure([])


def test_probes_and_answers_in_the_wrong_order_are_refused_in_words(images):
    with pytest.raises(
        TypeError, match=r"draws an ImageSet, as from_folder.* returns it, got list"
    ):
        plots.matches([], images, images)
    with pytest.raises(
        TypeError, match=r"draws an ImageSet, as from_folder.* returns it, got list"
    ):
        plots.confusions(images, [])
