"""The directive ``benchmark``: the table of a benchmark, from the JSON that it left.

It takes the name of a file in ``benchmarks/results``, whose "rows" are the rows of the table and
whose "date", "versions" and "machine" say where the numbers come from. A benchmark that was not
run yet leaves a sentence that says so. The name of another entry, after that of the file, makes
a table of that entry, or of its rows, alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

__all__ = ["Benchmark", "setup"]

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


class Benchmark(SphinxDirective):
    """``.. benchmark:: att_faces`` becomes the table of ``benchmarks/results/att_faces.json``."""

    required_arguments = 1
    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        path = RESULTS / f"{self.arguments[0]}.json"
        self.env.note_dependency(str(path))
        if not path.exists():
            text = f"Not measured yet: benchmarks/{self.arguments[0]}.py writes this table."
            return [nodes.paragraph("", "", nodes.emphasis(text=text))]
        found = json.loads(path.read_text())
        if len(self.arguments) > 1:
            entry = found[self.arguments[1]]
            return [table(entry if isinstance(entry, list) else [entry])]
        return [table(found["rows"]), nodes.paragraph("", "", nodes.emphasis(text=origin(found)))]


def table(rows: Sequence[dict[str, Any]]) -> nodes.table:
    """Rows as a table; lists and dictionaries stay in the JSON."""
    names = dict.fromkeys(
        name for row in rows for name, value in row.items() if not isinstance(value, list | dict)
    )
    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in names), cols=len(names))
    group += nodes.thead("", line(names))
    group += nodes.tbody("", *(line(shown(row.get(name)) for name in names) for row in rows))
    return nodes.table("", group)


def line(cells: Any) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph(text=cell)) for cell in cells))


def shown(value: Any) -> str:
    """A cell: four digits of a number with a point, nothing for nothing."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def origin(found: dict[str, Any]) -> str:
    """When, with what and on what a benchmark was run."""
    versions = ", ".join(f"{name} {number}" for name, number in found.get("versions", {}).items())
    machine = found.get("machine", {})
    place = f"{machine.get('processor', '')}, {machine.get('cores', '?')} cores" if machine else ""
    return "; ".join(part for part in (found.get("date", ""), versions, place) if part) + "."


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("benchmark", Benchmark)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
