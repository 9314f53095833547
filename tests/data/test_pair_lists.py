import re
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from siamlearn.data.images import from_arrays
from siamlearn.data.pair_lists import PairList, read_pairs

NAMES = ["Abel/Abel_0001.jpg", "Abel/Abel_0004.jpg", "Abel/Abel_0012.jpg", "Dean/Dean_0001.jpg"]
PEOPLE = ["Abel", "Abel", "Abel", "Dean"]


def pictures(names=NAMES, people=PEOPLE):
    return from_arrays(torch.zeros(len(names), 1, 2, 2).byte(), people, names=names)


def written(folder, text, name="pairs.txt"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def rows(pairs: PairList):
    columns = pairs.left, pairs.right, pairs.same, pairs.fold
    return list(zip(*(column.tolist() for column in columns), strict=True))


LFW = "2\t1\nAbel\t1\t4\nAbel\t4\tDean\t1\nAbel\t4\t12\nDean\t1\tAbel\t12\n"


def test_the_list_of_lfw_is_read(tmp_path):
    pairs = read_pairs(written(tmp_path, LFW), pictures())

    assert rows(pairs) == [(0, 1, True, 0), (1, 3, False, 0), (1, 2, True, 1), (3, 2, False, 1)]
    assert (pairs.name, pairs.folds, len(pairs)) == ("pairs", 2, 4)
    assert repr(pairs) == "PairList(pairs: 2 genuine and 2 impostor pairs in 2 folds)"


def test_the_list_of_view_1_has_one_fold(tmp_path):
    pairs = read_pairs(written(tmp_path, "1\nAbel 1 4\nAbel 4 Dean 1\n"), pictures(), name="dev")

    assert (pairs.name, pairs.folds, len(pairs)) == ("dev", 1, 2)


def test_a_csv_file_is_read(tmp_path):
    text = (
        "left, right, same, fold, comment\n"
        "Abel/Abel_0001.jpg, Abel_0004, yes, b, x\n"
        "Abel_0004.jpg, Dean/Dean_0001, 0, a, y\n"
    )
    pairs = read_pairs(written(tmp_path, text, "list.csv"), pictures())

    assert rows(pairs) == [(0, 1, True, 0), (1, 3, False, 1)]


def test_a_csv_file_without_folds_has_one(tmp_path):
    path = written(tmp_path, "left,right,same\nAbel_0001,Dean_0001,different\n")

    assert rows(read_pairs(path, pictures())) == [(0, 3, False, 0)]


@pytest.mark.parametrize(
    "names",
    [
        ["lfw/Abel/Abel_0001.png", "lfw/Abel/Abel_0004.png", "x/Abel_0012", "lfw/Dean_0001.png"],
        ["Abel/1.pgm", "Abel/4.pgm", "Abel/12.pgm", "Dean/1.pgm"],
        ["data/Abel/1", "data/Abel/4", "data/Abel/12", "data/Dean/1"],
    ],
)
def test_pictures_are_found_whatever_stands_around_their_names(tmp_path, names):
    pairs = read_pairs(written(tmp_path, LFW), pictures(names))

    assert pairs.left.tolist() == [0, 1, 1, 3]
    assert pairs.right.tolist() == [1, 3, 2, 2]


def test_a_whole_name_means_that_picture_though_others_end_so(tmp_path):
    path = written(tmp_path, "left,right,same\n1.png,a/1.png,1\n")

    assert rows(read_pairs(path, pictures(["a/1.png", "1.png"], ["x", "x"]))) == [(1, 0, True, 0)]


@given(order=st.permutations(range(4)), turned=st.lists(st.booleans(), min_size=4, max_size=4))
def test_the_digest_is_of_the_pairs_in_whatever_order(order, turned):
    left, right = torch.tensor([0, 1, 1, 3]), torch.tensor([1, 3, 2, 2])
    same, fold = torch.tensor([True, False, True, False]), torch.tensor([0, 0, 1, 1])
    pairs = PairList("a", tuple(NAMES), left, right, same, fold)
    turn = torch.tensor(turned)
    other = PairList(
        "b",
        tuple(NAMES),
        torch.where(turn, left, right)[order],
        torch.where(turn, right, left)[order],
        same[order],
        fold[order],
    )

    assert pairs.digest == other.digest
    assert len(pairs.digest) == 64
    assert replace(pairs, fold=fold.flip(0)).digest != pairs.digest
    assert replace(pairs, same=~same).digest != pairs.digest
    assert replace(pairs, right=torch.tensor([2, 3, 2, 2])).digest != pairs.digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("Abel 1 4\n", "first line must have the number of folds"),
        ("2 1\nAbel 1 4\nAbel 4 Dean 1\n", "promises 2 folds of 1 genuine and 1 impostor pairs"),
        ("1 1\nAbel 1 4\nAbel four Dean 1\n", "line 3 of .* is 'Abel four Dean 1'"),
        ("1 1\nAbel 1 4\nAbel 4 Dean 1 2\n", "line 3 of .* is 'Abel 4 Dean 1 2'"),
        ("1 1\nAbel 1 5\nAbel 4 Dean 1\n", "Abel/Abel_0005 of line 2 of .* is not there; the 4"),
        ("1 1\nAbel 1 1\nAbel 4 Dean 1\n", "pair a picture with itself .*Abel/Abel_0001.jpg"),
        ("left,right\na,b\n", "columns left, right and same, but .* has left, right"),
        ("left,right,same\nAbel_0001,Abel_0004,maybe\n", "same = 1 or 0, but line 2"),
        ("left,right,same\nAbel_0001\n", "same = 1 or 0, but line 2"),
        ("left,right,same\n", "a pair or more"),
        ("left,right,same\nAbel_0001,Dean_0001,1\n", "line 2 .* says that .* show one person"),
        ("left,right,same\nAbel_0001,Abel_0004,0\n", "line 2 .* says that .* show two people"),
    ],
)
def test_what_is_wrong_with_a_list_is_told_with_its_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_pairs(written(tmp_path, text), pictures())


def test_a_name_of_two_pictures_is_refused(tmp_path):
    path = written(tmp_path, "left,right,same\n1,2,1\n")

    with pytest.raises(ValueError, match=re.escape("may be a/1.png or b/1.png")):
        read_pairs(path, pictures(["a/1.png", "b/1.png"], ["x", "x"]))


def test_columns_of_a_list_are_equally_long():
    with pytest.raises(ValueError, match=re.escape("got lengths [2, 1, 1, 1]")):
        PairList(
            "x", ("a", "b"), torch.tensor([0, 1]), *torch.tensor([[1], [0]]), torch.tensor([0])
        )


def test_a_name_that_two_pictures_have_is_refused(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("left,right,same\nx.png,y.png,0\n")
    twice = pictures(["x.png", "y.png", "x.png"], ["a", "b", "c"])

    with pytest.raises(ValueError, match=r"x.png of line 2 of .* may be x.png or x.png"):
        read_pairs(path, twice)
