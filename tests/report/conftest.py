"""A report, its pages, and a real browser to open them in."""

import os
import shutil
from datetime import datetime

import pytest
from playwright.sync_api import sync_playwright

import siamlearn as sl
from siamlearn.auditing import Audit, Finding, Severity

WHEN = datetime(2026, 11, 24, 9, 30)
BAD = '<script>document.title="broken"</script>'  # somebody's name


def named(images, names):
    """The same pictures of people with other names."""
    return sl.ImageSet(images.pixels, images.labels, identities=names, names=images.names)


@pytest.fixture(scope="session")
def faces():
    return sl.DrawnFaces(12, 6, size=(56, 46)).split_identities(held_out=0.5, seed=0)


@pytest.fixture(scope="session")
def run(faces):
    """A system with an operating point, measured on people of whom one has a dangerous name."""
    train, test = faces
    test = named(test, [BAD if name == test.people[0] else name for name in test.identities])
    point = sl.OperatingPoint.fit(sl.pixels(train), fmr=0.05)
    return sl.evaluate(sl.pixels(test), point, train=train, name="net <b>one</b>", resamples=200)


@pytest.fixture(scope="session")
def other_run(run, faces):
    """Another system on the same pictures, given in another order."""
    images = run.embeddings.images
    backwards = images.subset(range(len(images) - 1, -1, -1))
    return sl.evaluate(
        sl.pca_lda(backwards, train=faces[0]), baselines=False, name="other", resamples=200
    )


@pytest.fixture(scope="session")
def audited():
    finding = Finding(
        "people-in-train-and-test",
        Severity.ERROR,
        ("train", "test"),
        "1 of 6 tested people is in train too",
        1,
        (BAD,),
        "split by people",
    )
    return Audit((finding,), ("names of test",), ("scores: none",))


@pytest.fixture(scope="session")
def page(run, audited, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    return sl.report.html(run, path, audit=audited, when=WHEN)


@pytest.fixture(scope="session")
def page_of_two(run, other_run, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "two.html"
    return sl.report.comparison(run, other_run, path, when=WHEN)


def chromium():
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = (shutil.which(name) for name in names)
    return os.environ.get("SIAMLEARN_CHROMIUM") or next((path for path in found if path), None)


@pytest.fixture(scope="session")
def browser():
    """Debian's chromium; where there is none, CI fails and everybody else is told."""
    path = chromium()
    if path is None:
        why = "no browser to open pages in: apt-get install chromium, or set SIAMLEARN_CHROMIUM"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(why)
    with sync_playwright() as playwright:
        # A sandbox needs rights that containers have not; the pages are our own.
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(browser):
    """Open a page of ours and watch it: it may neither complain nor ask for anything."""
    contexts, complaints, requests = [], [], []

    def go(path, *, width=1200, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(path.as_uri())
        return tab

    yield go
    for context in contexts:
        context.close()
    assert complaints == []
    asked = [url for url in requests if not url.startswith("data:")]
    assert all(url.startswith("file:") and url.endswith(".html") for url in asked), asked
