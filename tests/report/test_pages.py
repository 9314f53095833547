"""What pages hold, without a browser: everything they need, and nothing that runs."""

import json
import re
import sys
from dataclasses import replace
from datetime import datetime

import pytest
import torch

import siamlearn as sl
from siamlearn.evaluation.judgement import caveats
from siamlearn.evaluation.reports import Difference
from siamlearn.known import known
from siamlearn.report import rendering
from siamlearn.report.figures import FIGURES, Drawing, pictures
from siamlearn.report.flips import flips
from siamlearn.report.systems import main_table, more_table
from siamlearn.report.thresholds import slider, thresholds
from siamlearn.report.thumbnails import Thumbnails
from siamlearn.report.words import said, said_of_two

WHEN = datetime(2026, 11, 24, 9, 30)
LINE = torch.tensor([[0.0], [1.0], [4.0], [7.0]])


def on_a_line(points=LINE, names=("anna", "bob")):
    labels = torch.arange(len(points)) // 2
    return sl.Embeddings(points, labels, names, tuple(f"{i}.png" for i in range(len(points))))


def written(path):
    text = path.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return text, json.loads(found[1])


def test_a_page_asks_for_nothing_from_elsewhere(page, page_of_two):
    for path in (page, page_of_two):
        text, _ = written(path)
        assert not re.search(r'(?:src|href|action|data)="(?!data:|#)', text)
        assert not re.search(r"url\((?!#|data:)|@import", text)
        policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
        assert policy.startswith("default-src 'none'; img-src data:;")
        assert "unsafe" not in policy.split("script-src")[1]


def test_names_are_text_and_never_markup(page, page_of_two):
    for path in (page, page_of_two):
        text, data = written(path)
        assert "<script>document" not in text
        assert "net <b>one</b>" not in text
        assert any("<script>document" in each["who"] for each in data["pictures"])


def test_the_same_report_makes_the_same_bytes(run, tmp_path, page, audited):
    again = sl.report.html(run, tmp_path / "again.html", audit=audited, when=WHEN)
    assert again.read_bytes() == page.read_bytes()


def test_slider_by_hand():
    report = sl.evaluate(on_a_line())  # genuine at 1 and 3; impostors at 3, 4, 6 and 7
    values = slider(report)
    rows = zip(values["threshold"], values["genuine"], values["impostor"], strict=True)
    counted = {threshold: (genuine, impostor) for threshold, genuine, impostor in rows}
    assert [counted[at] for at in (1.0, 3.0, 4.0, 6.0, 7.0)] == [
        (1, 0),
        (2, 1),
        (2, 2),
        (2, 3),
        (2, 4),
    ]
    assert counted[min(counted)] == (0, 0)


def test_the_slider_stays_short_and_keeps_the_tails_of_many_pairs():
    generator = torch.Generator().manual_seed(0)
    many = sl.Embeddings(
        torch.randn(600, 8, generator=generator),
        torch.arange(600) // 6,
        tuple(map(str, range(100))),
        tuple(map(str, range(600))),
    )
    report = sl.evaluate(many, resamples=0)
    places = thresholds(report)
    assert len(places) < 1200
    assert (places[1:] > places[:-1]).all()
    shares = report.accepted.fmr[torch.searchsorted(report.accepted.threshold.double(), places)]
    small = shares[(shares > 0) & (shares < 1e-3)]
    assert len(small) > 50
    assert slider(report)["bands"] is None


def test_pairs_that_are_all_equally_far_apart_make_a_page_too(tmp_path):
    report = sl.evaluate(on_a_line(torch.ones(4, 1)))
    _, data = written(sl.report.html(report, tmp_path / "page.html", figures=()))
    assert data["threshold"] == sorted(set(data["threshold"]))


def test_a_report_without_pictures_baselines_or_intervals_makes_a_page(tmp_path):
    report = replace(sl.evaluate(on_a_line(), resamples=0), audit=None)
    text, data = written(sl.report.html(report, tmp_path / "new" / "page.html"))
    assert {each["src"] for each in data["pictures"]} == {None}
    assert "Not drawn: " in text
    assert "Nobody looked." in text


def test_with_a_gallery_the_pictures_of_a_pair_come_from_both_sides(faces, tmp_path):
    enrolled, probes = faces[1].split_gallery(pictures=2, seed=0)
    report = sl.evaluate(sl.pixels(probes), gallery=sl.pixels(enrolled), baselines=False)
    _, data = written(sl.report.html(report, tmp_path / "page.html", figures=()))
    for kind, same in (("genuine", True), ("impostor", False)):
        for one, other, _ in data["pairs"][kind]:
            first, second = data["pictures"][one], data["pictures"][other]
            assert first["name"] in probes.names
            assert second["name"] in enrolled.names
            assert (first["who"] == second["who"]) is same
    other = replace(report, name="again")
    assert sl.report.comparison(report, other, tmp_path / "two.html", figures=()).exists()


def test_a_page_of_many_large_pictures_stays_small(tmp_path):
    noise = torch.Generator().manual_seed(0)
    images = sl.ImageSet(
        torch.randint(0, 256, (400, 3, 160, 120), dtype=torch.uint8, generator=noise),
        torch.arange(400) // 10,
        identities=tuple(map(str, range(40))),
        names=tuple(map(str, range(400))),
    )
    vectors = torch.randn(400, 16, generator=noise)
    report = sl.evaluate(
        sl.Embeddings(vectors, images.labels, images.identities, images.names, images),
        baselines=False,
        resamples=0,
    )
    # Noise is the worst that there is for JPEG.
    path = sl.report.html(report, tmp_path / "page.html", figures=())
    assert path.stat().st_size < 4_000_000
    assert len(written(path)[1]["pictures"]) > 200


def test_a_picture_is_kept_once_and_never_made_larger(faces):
    shown = Thumbnails(sl.pixels(faces[1]))
    assert [shown.place(0, index) for index in (4, 2, 4)] == [0, 1, 0]
    sources = [each["src"] for each in shown.pictures()]
    assert len(sources) == 2
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)


def test_the_verdict_tells_who_does_not_beat_a_baseline_first(run):
    assert said(run).tone == "bad"
    assert said(run).headline.startswith("net <b>one</b> does not beat ")
    alone = replace(run, baselines=(), differences=())
    assert "AUC" in said(alone).headline
    assert "chosen on 6 other people" in said(run).lines[1]


def test_the_verdict_warns_of_errors_that_the_audit_found(run, audited):
    assert (
        said(run, audited)
        .lines[-1]
        .startswith("The audit found 1 error (people-in-train-and-test):")
    )


def test_the_verdict_warns_of_people_whom_the_net_was_trained_on():
    learned = replace(on_a_line(), trained_on=known(["anna"]))
    told = said(sl.evaluate(learned))
    assert told.tone == "bad"
    assert "The net was trained on 1 of the 2 people: this says nothing" in told.lines[1]


def test_the_page_says_what_is_missing_from_its_numbers(tmp_path):
    alone = on_a_line(torch.tensor([[0.0], [1.0], [9.0]]))
    report = sl.evaluate(alone, baselines=False)
    text, _ = written(sl.report.html(report, tmp_path / "page.html", figures=()))
    assert "Ranks leave out 1 picture whose identity is on no other." in text
    assert all(each.sentence in text for each in caveats(report))
    assert len(caveats(report)) == 3


def test_a_question_mark_is_explained_under_its_table():
    report = sl.evaluate(on_a_line(), fmrs=(0.8, 0.1), fpirs=(0.1,), resamples=0, baselines=False)

    assert main_table([report]).notes == (
        "?: 4 impostor pairs are too few: FNMR at FMR 10 % takes 30 (rule of three).",
    )
    assert more_table([report]).notes == (
        "?: 4 pictures are too few: FNIR at FPIR 10 % takes 30 (rule of three).",
    )


def test_the_bands_of_the_slider_are_of_the_level_of_the_report(run):
    wide = sl.evaluate(run.embeddings, baselines=False, level=0.999)
    wide, usual = (slider(report)["bands"]["fmr"]["high"] for report in (wide, run))
    assert sum(wide) / len(wide) > sum(usual) / len(usual)


@pytest.mark.parametrize("page", [sl.report.html, lambda report, path: sl.report.markdown(report)])
def test_what_is_no_report_is_refused_in_words(page, tmp_path):
    with pytest.raises(TypeError, match=r"a Report is needed first.*got Embeddings"):
        page(on_a_line(), tmp_path / "page.html")
    with pytest.raises(TypeError, match=r"got str: 'page.html'"):
        page("page.html", sl.evaluate(on_a_line()))


def test_a_figure_that_cannot_be_drawn_says_why(run, tmp_path):
    def refuses(report):
        msg = "a curve needs two people, got 1"
        raise ValueError(msg)

    figures = [Drawing("Curve", "", refuses)]
    text, _ = written(sl.report.html(run, tmp_path / "page.html", figures=figures))
    assert "Not drawn: a curve needs two people, got 1." in text


def test_pages_say_which_of_two_is_better(run, page):
    found = {each.what: each for each in run.differences if each.second == "pixels"}
    assert (
        f"{found['AUC']}: {found['AUC'].says}".replace("<", "&lt;").replace(">", "&gt;")
        in (written(page)[0])
    )
    better = Difference("one", "two", "EER", sl.Estimate(-0.1, -0.2, -0.05), 0.01)
    assert said_of_two(run, run, [better]).lines[0].endswith("p = 0.01: one is better")


def test_that_no_people_are_confused_is_not_said_to_mean_that_no_pair_passes(run):
    # At a strict threshold some pairs pass, and of no two people half of them.
    point = replace(run.points[0].point, threshold=float(run.accepted.threshold_at(0.01)))
    few = replace(run, points=(replace(run.points[0], point=point),))
    assert few.accepted.at(point.threshold)[0] > 0
    [drawn] = pictures(
        few, [drawing for drawing in FIGURES if drawing.title == "Who passes for whom"]
    )
    assert drawn.missing == (
        "of no two people half of the pairs pass at this threshold; single ones that do are among "
        "the errors above"
    )


def test_flips_by_hand():
    one = sl.evaluate(on_a_line(), name="one")  # genuine 1, 3; impostor 4, 7, 3, 6
    other = sl.evaluate(on_a_line(torch.tensor([[0.0], [5.0], [6.0], [7.0]])), name="other")
    found = flips(one, other, (3.5, 2.0))  # the other: genuine 5, 1; impostor 6, 7, 1, 2
    told = {(f.probe, f.reference): (f.distances, f.genuine, f.first_right) for f in found.pairs}
    assert told == {
        (0, 1): ((1.0, 5.0), True, True),
        (1, 3): ((6.0, 2.0), False, True),
    }
    assert found.counts[True, True, True] == 1  # (2, 3), 3 and 1
    assert found.counts[False, True, True] == 2
    assert found.counts[False, False, False] == 1  # (1, 2), 3 and 1
    assert found.flipped(first_right=True) == 2
    assert found.flipped(first_right=False) == 0


def test_two_runs_are_asked_at_thresholds_for_the_same_end(run, other_run):
    point = run.points[0].point
    both = replace(other_run, points=(replace(run.points[0], point=replace(point, threshold=0.5)),))
    found = flips(run, both)
    assert (found.thresholds, found.chosen_for) == ((point.threshold, 0.5), point.name)
    found = flips(run, other_run)  # which has no point
    assert found.thresholds == (run.eer_threshold, other_run.eer_threshold)
    assert found.chosen_for == "EER on these pairs"
    assert flips(run, other_run, (1.0, 2.0)).chosen_for == ""


def test_flips_are_counted_whatever_the_order_of_the_pictures(run, other_run):
    found = flips(run, other_run)
    forwards = other_run.embeddings.subset(range(len(other_run.embeddings) - 1, -1, -1))
    straight = flips(run, sl.evaluate(forwards, baselines=False, resamples=0), found.thresholds)
    assert found.counts == straight.counts
    assert sum(found.counts.values()) == run.genuine + run.impostor
    assert found.pairs == straight.pairs


def test_swapping_the_systems_swaps_the_flips(run, other_run):
    one, other = flips(run, other_run), flips(other_run, run)
    assert one.flipped(first_right=True) == other.flipped(first_right=False) > 0


def test_the_errors_of_flips_are_those_of_the_reports(run, other_run):
    found = flips(run, other_run)
    for report, place in ((run, 1), (other_run, 2)):
        fmr, fnmr = report.accepted.at(found.thresholds[place - 1])
        for genuine, rate, pairs in ((True, fnmr, run.genuine), (False, fmr, run.impostor)):
            wrong = sum(
                number
                for key, number in found.counts.items()
                if key[0] is genuine and not key[place]
            )
            assert wrong == round(float(rate) * pairs)


def test_two_runs_on_other_pictures_are_not_compared(run, tmp_path):
    fewer = sl.evaluate(run.embeddings.subset(range(12)), baselines=False, resamples=0)
    with pytest.raises(
        ValueError, match="same pictures of the same people, but net <b>one</b> was"
    ):
        sl.report.comparison(run, fewer, tmp_path / "two.html")


def test_two_runs_of_one_name_are_told_apart(run, tmp_path):
    text, _ = written(sl.report.comparison(run, run, tmp_path / "two.html", figures=()))
    assert "(first)" in text
    assert "(second)" in text
    assert "cannot be told apart on these people" in text
    assert "No pair flipped." in text


def test_without_jinja_it_says_what_to_install(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "siamlearn\[report\]"'):
        rendering.write_page("report.html.j2", tmp_path / "page.html")


def test_thresholds_that_the_verdict_leaves_out_are_counted(run):
    many = replace(run, points=5 * run.points)
    assert sum("strangers are let in" in line for line in said(many).lines) == 3
    assert said(many).lines[-1] == "What 2 more give is shown beside the slider."
    assert said(replace(run, points=3 * run.points)).lines[-1].endswith("turned away.")


def test_how_two_runs_were_made_is_told_of_both_where_it_differs(run, other_run, tmp_path):
    path = sl.report.comparison(run, other_run, tmp_path / "two.html", figures=())
    one, other = (each.embeddings.vectors.shape[1] for each in (run, other_run))
    text, _ = written(path)
    assert f"{one:,} dimensions (net &lt;b&gt;one&lt;/b&gt;); {other:,} dimensions (other)" in text
    assert text.count(run.protocol.digest) == 1
