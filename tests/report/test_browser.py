"""The pages in a real browser: they show what the report says, to every reader."""

import re

import pytest
from playwright.sync_api import expect

from siamlearn.report.thresholds import named_thresholds, thresholds

SCHEMES = {"light": "rgb(246, 246, 243)", "dark": "rgb(21, 23, 26)"}


def told(tab, place):
    """A rate as it stands on the page, as a share."""
    return float(tab.inner_text(place).removesuffix(" %")) / 100


def at(tab, index):
    """Move the slider by its keyboard to the threshold of this number."""
    tab.focus("#threshold")
    tab.keyboard.press("Home")
    leap = -(-(tab.evaluate("data.threshold.length") - 1) // 20)
    for _ in range(index // leap):
        tab.keyboard.press("PageUp")
    for _ in range(index % leap):
        tab.keyboard.press("ArrowRight")


@pytest.mark.parametrize("width", [380, 800, 1400])
def test_no_page_has_to_be_scrolled_sideways(opened, page, page_of_two, width):
    for path in (page, page_of_two):
        tab = opened(path, width=width)
        tab.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        outside = tab.evaluate(
            "[...document.querySelectorAll('main *')].filter((e) => {"
            " const box = e.getBoundingClientRect();"
            " return box.width && box.right > innerWidth + 1 && !e.closest('svg, thead, .skip');"
            "}).map((e) => e.outerHTML.slice(0, 80))"
        )
        assert outside == []


def test_the_rates_beside_the_slider_are_those_of_the_report(opened, run, page):
    tab = opened(page)
    places = thresholds(run)
    for index in (0, 7, len(places) // 3, len(places) // 2, len(places) - 1):
        at(tab, index)
        fmr, fnmr = (float(rate) for rate in run.accepted.at(float(places[index])))
        assert tab.evaluate("slider.index") == index
        assert told(tab, "#fmr") == pytest.approx(fmr, abs=6e-5)
        assert told(tab, "#fnmr") == pytest.approx(fnmr, abs=6e-5)
        assert f"{round(fmr * run.impostor):,} of" in tab.inner_text("#fmr-pairs")


def test_every_rate_that_the_page_holds_is_that_of_the_report(opened, run, page):
    tab = opened(page)
    shown = tab.evaluate("data.threshold.map((t, k) => [t, rates(k).fmr, rates(k).fnmr])")
    assert 10 < len(shown) < 1300
    for threshold, fmr, fnmr in shown:
        assert [fmr, fnmr] == pytest.approx([float(rate) for rate in run.accepted.at(threshold)])


def test_a_named_threshold_moves_the_slider_to_it(opened, run, page):
    tab = opened(page)
    names = list(named_thresholds(run))
    assert tab.locator("#names button").all_inner_texts() == [name for name, _, _ in names]
    for button, (name, threshold, _) in zip(tab.locator("#names button").all(), names, strict=True):
        button.click()
        assert tab.evaluate("data.threshold[slider.index]") == threshold
        assert float(tab.input_value("#threshold")) == pytest.approx(threshold)
        assert button.get_attribute("aria-pressed") == "true"
        assert name in tab.inner_text("#at-name")


def test_the_page_starts_at_the_operating_point_that_was_chosen_on_others(opened, run, page):
    tab = opened(page)
    assert tab.evaluate("data.threshold[slider.index]") == run.points[0].point.threshold
    assert told(tab, "#fmr") == pytest.approx(float(run.points[0].fmr), abs=6e-5)


def test_the_slider_and_the_chart_can_be_dragged(opened, page):
    tab = opened(page)
    tab.fill("#threshold", str(tab.evaluate("data.threshold[40]")))
    assert tab.evaluate("slider.index") == 40
    chart = tab.locator("#chart")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    tab.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + box["height"] / 2)
    line = float(tab.locator("#now").get_attribute("x1"))
    assert line == pytest.approx(0.75 * box["width"], abs=box["width"] / 50)


def wrong(tab):
    return tab.evaluate("gallery.shown.map((p) => [p.kind, p.wrong, ...p.pictures])")


def test_errors_are_those_beyond_the_threshold_and_the_most_wrong_comes_first(opened, run, page):
    tab = opened(page)
    seen = []
    for index in (30, len(thresholds(run)) // 2):
        at(tab, index)
        threshold = float(thresholds(run)[index])
        fmr, fnmr = run.accepted.at(threshold)
        wanted = {
            "genuine": min(150, round(float(fnmr) * run.genuine)),
            "impostor": min(150, round(float(fmr) * run.impostor)),
        }
        errors = wrong(tab)
        assert [beyond for _, beyond, *_ in errors] == sorted((e[1] for e in errors), reverse=True)
        for kind, number in wanted.items():
            assert sum(error[0] == kind for error in errors) == number
        seen.append(errors)
    assert seen[0] != seen[1]


def test_the_pictures_of_an_error_are_as_far_apart_as_it_says(opened, run, page):
    tab = opened(page)
    vectors, names = run.embeddings.vectors, run.embeddings.names
    pairs = tab.evaluate(
        "[...data.pairs.genuine, ...data.pairs.impostor]"
        ".map(([a, b, d]) => [data.pictures[a].name, data.pictures[b].name, d])"
    )
    for one, other, distance in pairs[:: len(pairs) // 10]:
        apart = (vectors[names.index(one)] - vectors[names.index(other)]).norm().item()
        assert distance == pytest.approx(apart, rel=1e-3)


def test_errors_are_filtered_and_more_of_them_shown(opened, page):
    tab = opened(page)
    tab.locator("#names button", has_text="EER").click()
    for kind in ("genuine", "impostor"):
        tab.click(f"[data-filter={kind}]")
        assert {error[0] for error in wrong(tab)} == {kind}
        assert tab.locator(f"#pairs button.{kind}").count() == tab.locator("#pairs li").count() > 0
    tab.click("[data-filter=all]")
    before = tab.locator("#pairs li").count()
    tab.click("#more")
    assert tab.locator("#pairs li").count() > before == 12


def test_a_pair_is_enlarged_and_clicked_through_by_keyboard(opened, page):
    tab = opened(page)
    tab.focus("#pairs button")
    tab.keyboard.press("Enter")
    assert tab.locator("#enlarged").is_visible()
    first = tab.inner_text("#enlarged-says")
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowRight")
    assert tab.inner_text("#enlarged-place").startswith("3 of ")
    assert tab.inner_text("#enlarged-says") != first
    tab.keyboard.press("ArrowLeft")
    assert tab.inner_text("#enlarged-place").startswith("2 of ")
    tab.keyboard.press("Escape")
    expect(tab.locator("#enlarged")).to_be_hidden()
    expect(tab.locator("#pairs button").nth(1)).to_be_focused()


def test_it_is_dark_where_the_system_is_and_where_the_button_says(opened, page):
    for scheme, other in (("light", "dark"), ("dark", "light")):
        tab = opened(page, scheme=scheme)
        back = "getComputedStyle(document.body).backgroundColor"
        assert tab.evaluate(back) == SCHEMES[scheme]
        tab.click("#theme")
        assert tab.evaluate(back) == SCHEMES[other]
        tab.click("#theme")
        assert tab.evaluate(back) == SCHEMES[scheme]


CONTRAST = """() => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map((v) => v / 255)
      .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const back = (e) => {
    for (; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (!colour.startsWith("rgba(0, 0, 0, 0")) return colour;
    }
  };
  const found = [];
  for (const e of document.querySelectorAll("main *, .top *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.offsetParent || e.closest("svg, .missing")) continue;
    const [one, other] = [light(getComputedStyle(e).color), light(back(e))].sort((a, b) => b - a);
    if ((one + 0.05) / (other + 0.05) < 4.5) found.push(e.outerHTML.slice(0, 80));
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_its_background(opened, page, page_of_two, scheme):
    for path in (page, page_of_two):
        assert opened(path, scheme=scheme).evaluate(CONTRAST) == []


def test_everything_that_can_be_used_has_a_name_and_every_picture_a_text(opened, page):
    tab = opened(page)
    assert tab.locator("img:not([alt]), img[alt='']").count() == 0
    nameless = tab.evaluate(
        "[...document.querySelectorAll('button, input, summary, a')]"
        ".filter((e) => !(e.textContent.trim() || e.ariaLabel || e.labels?.length)).length"
    )
    assert nameless == 0
    assert re.search(r"FMR .+ %, FNMR .+ %", tab.get_attribute("#threshold", "aria-valuetext"))
    assert tab.get_attribute("html", "lang") == "en"
    assert tab.locator("h1").count() == 1


def test_a_name_with_a_script_in_it_is_shown_and_not_run(opened, page, page_of_two):
    for path in (page, page_of_two):
        tab = opened(path)
        assert tab.title() != "broken"
        assert tab.locator("h1 b").count() == 0
        assert "<b>one</b>" in tab.inner_text("h1")
    assert "<script>" in opened(page).inner_text("#audit")


def test_it_prints_on_paper_in_light_colours_whatever_the_screen(opened, page, tmp_path):
    tab = opened(page, scheme="dark")
    tab.pdf(path=tmp_path / "page.pdf", format="A4")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    tab.emulate_media(media="print")
    assert tab.evaluate("getComputedStyle(document.body).color") == "rgb(34, 38, 43)"
    assert not tab.locator("#threshold").is_visible()
    assert tab.locator("#chart").is_visible()


def test_the_page_of_two_shows_the_pairs_that_flipped(opened, page_of_two):
    tab = opened(page_of_two)
    assert tab.locator("#pairs li").count() > 0
    for kind in ("first", "second"):
        tab.click(f"[data-filter={kind}]")
        kinds = tab.evaluate("gallery.shown.map((pair) => pair.kind)")
        assert set(kinds) <= {kind}
    tab.click("[data-filter=all]")
    tab.click("#pairs button")
    tab.keyboard.press("ArrowRight")
    assert tab.inner_text("#enlarged-place").startswith("2 of ")
    assert "✓" in tab.inner_text("#enlarged-says")
    assert "✗" in tab.inner_text("#enlarged-says")


def test_what_can_be_opened_is_open_on_paper(opened, page):
    tab = opened(page)
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.locator("details:not([open])").count() == 0
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tab.locator("details[open]").count() == 0


@pytest.mark.parametrize("width", [380, 1400])
def test_no_word_of_the_chart_is_cut_off_and_rare_errors_can_be_stretched(opened, page, width):
    tab = opened(page, width=width)
    tab.locator("#names button", has_text="EER").click()
    heights = []
    for stretched in (False, True):
        tab.set_checked("#log", stretched)
        cut = tab.evaluate(
            "(() => { const chart = document.getElementById('chart').getBoundingClientRect();"
            " return [...document.querySelectorAll('#chart text')].filter((word) => {"
            "  const box = word.getBoundingClientRect();"
            "  return box.left < chart.left || box.right > chart.right + 0.5;"
            " }).map((word) => word.textContent); })()"
        )
        assert cut == []
        heights.append(float(tab.locator("#fmr-dot").get_attribute("cy")))
    assert heights[1] < heights[0]  # a small rate stands higher on a stretched axis


def test_a_pair_on_a_telephone_has_no_empty_bars_around_its_pictures(opened, page):
    tab = opened(page, width=390)
    tab.locator("button:has(img)").first.click()
    shape = tab.locator("dialog img").first.evaluate(
        "(e) => [e.clientWidth / e.clientHeight, e.naturalWidth / e.naturalHeight]"
    )
    assert shape[0] == pytest.approx(shape[1], rel=0.02)
