"""Templates to a page that is one file: its styles, its script and its pictures are inside."""

from __future__ import annotations

import base64
import hashlib
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["made_with", "write_page"]

TEMPLATES = Path(__file__).parent / "templates"


def write_page(template: str, path: str | Path, **values: Any) -> Path:
    """Fill a template and write it; folders on the way are made.

    Whatever the values say is text: a name such as "<script>" is shown, and never run. The page
    tells the browser to run no script but its own, and to ask nothing of any network.

    Args:
        template: the name of a file in ``templates``.
        values: what it is filled with.

    Raises:
        ModuleNotFoundError: Jinja2 is not installed; the message has the pip command.

    Example:
        >>> import inspect
        >>> list(inspect.signature(write_page).parameters)
        ['template', 'path', 'values']
    """
    style, script = ((TEMPLATES / name).read_text() for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = _environment().get_template(template)
    text = page.render(style=style, script=script, script_digest=digest, **values)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def made_with(when: datetime | None, extra: Mapping[str, object]) -> dict[str, str]:
    """When and with which versions a page was made, and what the caller adds.

    Example:
        >>> from datetime import datetime
        >>> made_with(datetime(2026, 11, 24, 9, 30), {"seed": 0})["seed"]
        '0'
    """
    when = datetime.now(UTC) if when is None else when
    return {
        **{name: str(value) for name, value in extra.items()},
        "made on": f"{when:%Y-%m-%d %H:%M %Z}".strip(),
        "siamlearn": version("siamlearn"),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _environment() -> Environment:
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ModuleNotFoundError as missing:
        msg = 'pages need Jinja2; install it with: pip install "siamlearn[report]"'
        raise ModuleNotFoundError(msg, name="jinja2") from missing
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # A number that JSON does not know would be a page that does not start.
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    environment.filters["thousands"] = "{:,}".format
    return environment
