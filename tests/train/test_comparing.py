"""Two runs beside each other."""

import pytest

import siamlearn as sl
from siamlearn.train.comparing import _values

FACES = sl.DrawnFaces(8, 4, size=(12, 10), seed=3)
LEARNED, TESTED = FACES.split_identities(held_out=4, seed=0)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs that differ in two settings; the second one alone is validated."""
    folder = tmp_path_factory.mktemp("compared") / "runs"
    one = sl.fit(LEARNED, epochs=3, folder=folder, callbacks=())
    settings = {"epochs": 5, "learning_rate": 1e-3, "validation": TESTED}
    return one, sl.fit(LEARNED, folder=folder, callbacks=(), **settings)


def test_what_was_set_otherwise_is_told_with_both_values(runs):
    compared = sl.compare_runs(*runs)

    assert compared.names == ("runs", "runs1")
    validation = compared.settings.pop("split.validation")
    assert compared.settings == {"fit.epochs": (3, 5), "fit.learning_rate": (0.002, 0.001)}
    assert validation == (None, f"4 people, digest {TESTED.digest[:12]}")


def test_the_logs_stand_beside_each_other(runs):
    values = sl.compare_runs(*runs).values
    first, second = ([row["loss"] for row in run.log] for run in runs)
    validated = [row["val_loss"] for row in runs[1].log]

    assert values == {
        "epochs": (3, 5),
        "steps": (3, 5),
        "loss": (first[-1], second[-1]),
        "lowest loss": (min(first), min(second)),
        "val_loss": (None, validated[-1]),
        "lowest val_loss": (None, min(validated)),
    }


def test_the_best_of_a_value_is_on_the_side_that_is_better():
    log = [{"epoch": 1, "auc": 0.9, "eer": 0.2, "other": 1}, {"epoch": 2, "auc": 0.7, "eer": 0.3}]

    assert _values(log) == {
        "epochs": 2,
        "auc": 0.7,
        "highest auc": 0.9,
        "eer": 0.3,
        "lowest eer": 0.2,
        "other": 1,
    }
    assert _values([]) == {}


def test_it_is_printed_as_a_table(runs):
    lines = str(sl.compare_runs(*runs)).splitlines()

    assert lines[0].split() == ["runs", "runs1"]
    assert "fit.learning_rate" in lines[2]
    assert lines[2].split()[1:] == ["0.002", "0.001"]
    assert lines[3].split()[:2] == ["split.validation", "-"]
    assert len({len(line) for line in lines}) == 1


def test_runs_are_read_from_their_folders(runs):
    one, other = runs

    assert str(sl.compare_runs(one.folder, str(other.folder))) == str(sl.compare_runs(one, other))


def test_on_the_same_pictures_differences_are_paired(runs):
    compared = sl.compare_runs(*runs, images=TESTED)
    reports = [
        sl.evaluate(sl.embed(run.net, TESTED), baselines=False, name=run.name) for run in runs
    ]

    assert [str(each) for each in compared.differences] == [
        str(each) for each in sl.differences(*reports)
    ]
    assert str(compared).splitlines()[-1].startswith("runs - runs1: rank-1 ")
    assert sl.compare_runs(*runs).differences == ()


def test_a_comparison_on_people_that_one_was_trained_on_is_warned_of(runs):
    elsewhere = sl.fit(TESTED, epochs=1, callbacks=())

    with pytest.warns(UserWarning, match="^run was trained on 4 of the 4 people that it is"):
        sl.compare_runs(runs[0], elsewhere, images=TESTED)


def test_a_run_compared_with_itself_differs_in_nothing(runs):
    compared = sl.compare_runs(runs[0], runs[0], images=TESTED)

    assert compared.settings == {}
    assert all(one == other for one, other in compared.values.values())
    assert {float(each.value) for each in compared.differences} == {0.0}


def test_runs_of_one_name_are_told_apart(runs, tmp_path):
    elsewhere = sl.fit(LEARNED, epochs=1, folder=tmp_path / "runs", callbacks=())
    nowhere = sl.fit(LEARNED, epochs=1, callbacks=())

    assert sl.compare_runs(runs[0], elsewhere).names == (
        str(runs[0].folder),
        str(elsewhere.folder),
    )
    assert sl.compare_runs(nowhere, nowhere).names == ("run (first)", "run (second)")
    assert sl.compare_runs(runs[0], runs[0]).names == ("runs (first)", "runs (second)")
    assert sl.compare_runs(nowhere, runs[0]).settings["fit.epochs"] == (None, 3)


def test_the_curves_of_both_are_in_one_picture(runs):
    ax = sl.compare_runs(*runs).curves()

    assert [line.get_label() for line in ax.lines] == [
        "runs, training",
        "runs1, training",
        "runs1, validation",
    ]
    assert ax.lines[1].get_ydata().tolist() == [row["loss"] for row in runs[1].log]


def test_a_folder_that_is_no_run_is_refused(runs, tmp_path):
    with pytest.raises(ValueError, match="is not the folder of a run"):
        sl.compare_runs(runs[0], tmp_path)
