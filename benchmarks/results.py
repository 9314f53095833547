"""Keep what a benchmark measured: JSON with the date, the versions and the machine, and a table."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy
import sklearn
import torch

import siamlearn

FOLDER = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    cpu = Path("/proc/cpuinfo")
    names = (
        [line for line in cpu.read_text().splitlines() if "model name" in line]
        if cpu.exists()
        else []
    )
    return {
        "processor": names[0].split(":", 1)[1].strip() if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
    }


def versions() -> dict[str, str]:
    """Of everything that could change a figure."""
    return {
        "siamlearn": siamlearn.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "scikit-learn": sklearn.__version__,
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a Markdown table; lists are left to the JSON."""
    columns = [key for key, value in rows[0].items() if not isinstance(value, (list, dict))]
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(str(row.get(key, "")) for key in columns) + " |" for row in rows]
    return "\n".join(lines)


def today() -> str:
    return datetime.now(UTC).date().isoformat()


def write(name: str, rows: Sequence[Mapping[str, Any]], **more: Any) -> None:
    """Write ``results/<name>.json`` and show the table."""
    FOLDER.mkdir(exist_ok=True)
    found = {
        "date": today(),
        "versions": versions(),
        "machine": machine(),
        **more,
        "rows": rows,
    }
    (FOLDER / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    sys.stdout.write(table(rows) + "\n")


def amend(name: str, rows: Sequence[Mapping[str, Any]], *, key: Sequence[str]) -> None:
    """Put rows that were measured again in the place of those that are kept under the same key.

    Raises:
        ValueError: where those are of another day, other versions or another machine.
    """
    kept = json.loads((FOLDER / f"{name}.json").read_text())
    now = {"date": today(), "versions": versions(), "machine": machine()}
    other = [part for part, value in now.items() if kept[part] != value]
    if other:
        msg = f"{name}.json is of another {' and '.join(other)}; measure all rows again"
        raise ValueError(msg)
    again = {tuple(row[k] for k in key): row for row in rows}
    kept["rows"] = [again.get(tuple(row[k] for k in key), row) for row in kept["rows"]]
    (FOLDER / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n")
