"""Make docs/images/report.png anew: a page of drawn faces, on a screen and on a telephone.

python docs/_ext/report_picture.py
"""

from __future__ import annotations

import io
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from PIL import Image, ImageDraw
from playwright.sync_api import Browser, sync_playwright

import siamlearn as sl

PICTURE = Path(__file__).parents[1] / "images" / "report.png"
HEIGHT, GAP = 1460, 36
SHOWN = (  # width of the window, colours, and how far down it is scrolled
    (1100, "light", "body"),
    (400, "dark", "#threshold-section"),
)


def report() -> sl.Report:
    faces = sl.DrawnFaces(90, 10, size=(56, 46))
    train, rest = faces.split_identities(held_out=0.5, seed=0)
    calibration, test = rest.split_identities(held_out=0.5, seed=0)

    def embedded(images: sl.ImageSet) -> sl.Embeddings:
        return replace(sl.pca_lda(images, train=train), distance=sl.cosine)

    points = [sl.OperatingPoint.fit(embedded(calibration), fmr=fmr) for fmr in (0.1, 0.01)]
    return sl.evaluate(embedded(test), points, train=train, name="LDA by cosine")


def screen(browser: Browser, page: Path, width: int, colours: str, top: str) -> Image.Image:
    tab = browser.new_page(
        viewport={"width": width, "height": HEIGHT},
        color_scheme=colours,  # type: ignore[arg-type]
    )
    tab.goto(page.as_uri())
    tab.evaluate(
        "(place) => document.querySelector(place).scrollIntoView({behavior: 'instant'})", top
    )
    return Image.open(io.BytesIO(tab.screenshot()))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page = sl.report.html(report(), Path(folder) / "report.html")
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        screens = [screen(browser, page, *shown) for shown in SHOWN]
        browser.close()
    width = sum(each.width for each in screens) + GAP * (len(screens) - 1)
    both = Image.new("RGB", (width, HEIGHT), "white")
    left = 0
    for each in screens:
        mask = Image.new("L", each.size)
        ImageDraw.Draw(mask).rounded_rectangle((0, 0, each.width - 1, HEIGHT - 1), 14, fill=255)
        both.paste(each, (left, 0), mask)
        left += each.width + GAP
    # Few tones are enough for a page, and make a small file.
    both.quantize(256, dither=Image.Dither.NONE).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
