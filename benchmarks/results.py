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


def write(name: str, rows: Sequence[Mapping[str, Any]], **more: Any) -> None:
    """Write ``results/<name>.json`` and show the table."""
    FOLDER.mkdir(exist_ok=True)
    found = {
        "date": datetime.now(UTC).date().isoformat(),
        "versions": versions(),
        "machine": machine(),
        **more,
        "rows": rows,
    }
    (FOLDER / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    sys.stdout.write(table(rows) + "\n")
