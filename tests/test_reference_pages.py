"""The reference of the documentation."""

import pkgutil
import re
from pathlib import Path

import pytest

import siamlearn.functional
import siamlearn.nn

PAGES = "".join(
    page.read_text(encoding="utf-8")
    for page in (Path(__file__).parents[1] / "docs/reference").glob("*.md")
)
# The modules of losses are on the page of their package, which exports all that they have.
MODULES = sorted(
    module.name
    for package in (siamlearn.functional, siamlearn.nn)
    for module in pkgutil.walk_packages(package.__path__, prefix=f"{package.__name__}.")
    if not module.name.startswith("siamlearn.nn.losses.")
)


@pytest.mark.parametrize("name", MODULES)
def test_it_has_every_module_of_functions_and_of_nets(name):
    assert re.search(rf"automodule:: {re.escape(name)}\n", PAGES)
