"""Draws the pictures of ``howto/plots.md`` anew, of drawn faces: run it after a change of plots."""

from __future__ import annotations

from pathlib import Path

import siamlearn as sl

__all__ = ["draw"]

PICTURES = Path(__file__).parents[1] / "images" / "plots"


def draw() -> None:
    """Write all pictures of the page."""
    faces = sl.DrawnFaces(identities=60, pictures=6, size=(56, 46))
    people = faces.people
    train, rest = faces.only(people[:20]), faces.only(people[20:])
    calibration, test = rest.only(people[20:38]), rest.only(people[38:])
    points = [
        sl.OperatingPoint.fit(sl.pca_lda(calibration, train=train, components=20), fmr=fmr)
        for fmr in (0.1, 0.01)
    ]
    found = sl.pca_lda(test, train=train, components=20)
    report = sl.evaluate(found, points, train=train, name="Fisherfaces")
    bands = sl.inspection.bands(report)
    worst = sl.inspection.worst_pairs(report, count=4)
    threshold = points[0].threshold
    for name, drawn in {
        "det": sl.plots.det(report, bands=bands),
        "error_rates": sl.plots.error_rates(report, bands=bands),
        "distances": sl.plots.distance_histogram(report),
        "worst_pairs": sl.plots.worst_pairs(worst),
        "zoo": sl.plots.zoo(sl.inspection.zoo(report)),
        "people": sl.plots.people_distances(sl.inspection.people_distances(report)),
        "confusions": sl.plots.confusions(
            sl.inspection.confusions(report, threshold, share=0.5), test
        ),
        "map": sl.plots.embedding_map(sl.inspection.tsne_map(found), pictures=26),
    }.items():
        sl.plots.save(drawn, PICTURES / f"{name}.png", dpi=90)


if __name__ == "__main__":
    draw()
