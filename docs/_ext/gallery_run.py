"""How the documentation runs the examples: briefly, and with all figures kept under one name.

The figures stay in ``auto_examples/run``, where other pages show them too. They always show drawn
faces: the pictures of a data set may not be ours to publish.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from sphinx_gallery.scrapers import figure_rst

import siamlearn
from siamlearn.data import att_faces

__all__ = ["arguments", "drawn_faces_only", "pictures"]

RUN = Path(__file__).parents[1] / "auto_examples" / "run"


def drawn_faces_only(gallery_conf: dict[str, Any], name: str) -> None:
    """Hide the real faces, wherever they lie; asking for them all the same ends the build."""
    siamlearn.find_att_faces = att_faces.find_att_faces = lambda: None


def arguments(gallery_conf: dict[str, Any], script_vars: dict[str, Any]) -> list[str]:
    """What an example is called with; an earlier run's folder makes room first."""
    shutil.rmtree(RUN, ignore_errors=True)
    return ["--epochs", "8", "--save-dir", str(RUN)]


def pictures(
    block: tuple[Any, ...], block_vars: dict[str, Any], gallery_conf: dict[str, Any]
) -> str:
    """The figures that this block of the example left in its run's folder, for its page."""
    taken = block_vars.setdefault("taken", set())
    shown = []
    for path in sorted(RUN.glob("*.png")):
        if path not in taken:
            taken.add(path)
            shown.append(block_vars["image_path_iterator"].next())
            shutil.copy(path, shown[-1])
    # One call each: figures of one call would be small, and side by side.
    return "\n".join(figure_rst([path], gallery_conf["src_dir"]) for path in shown)
