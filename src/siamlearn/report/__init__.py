"""A report as a page for a browser, as a page of two runs, and as Markdown."""

from siamlearn.report.page import html
from siamlearn.report.text import markdown
from siamlearn.report.two import comparison

__all__ = ["comparison", "html", "markdown"]
