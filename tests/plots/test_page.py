from dataclasses import replace

import pytest

from siamlearn.plots import overview

LOG = [{"epoch": 1, "loss": 0.9, "val_loss": 1.0}, {"epoch": 2, "loss": 0.5, "val_loss": 0.8}]


@pytest.mark.parametrize(
    ("with_embeddings", "with_log", "expected"),
    [
        (False, False, ["Distances", "ROC", "Accuracy", "Identification"]),
        (False, True, ["Training", "Distances", "ROC", "Accuracy", "Precision", "Identification"]),
        (
            True,
            False,
            ["Embeddings", "Distances", "ROC", "Accuracy", "Precision", "Identification"],
        ),
        (True, True, ["Training", "Embeddings", "Distances", "ROC", "Accuracy", "Identification"]),
    ],
)
def test_the_page_has_a_lettered_panel_for_all_it_is_given(
    report, embeddings, with_embeddings, with_log, expected
):
    figure = overview(
        report, embeddings if with_embeddings else None, log=LOG if with_log else None
    )
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert len(titles) == len(expected)
    for letter, word, title in zip("abcdef", expected, titles, strict=False):
        assert title.startswith(rf"$\bf{{{letter}}}$   {word}")
    assert figure.get_suptitle() == "net: 20 pictures of 4 people"
    figure.draw_without_rendering()


def test_an_empty_log_is_left_out(report):
    assert len(overview(report, log=[]).axes) == 4


def test_a_long_name_widens_no_legend_beyond_the_page(report):
    figure = overview(replace(report, name="a net whose name is far too long " * 4))
    figure.draw_without_rendering()
    width = figure.bbox.width
    for ax in figure.axes:
        box = ax.get_legend().get_window_extent()
        assert -1 <= box.x0 < box.x1 <= width + 1
