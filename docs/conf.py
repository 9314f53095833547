"""How the documentation is built: `make docs`. It needs no network."""

from __future__ import annotations

import doctest
import os
import sys
from importlib.metadata import version as installed
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

project = "siamlearn"
author = "the siamlearn authors"
copyright = author
version = release = installed("siamlearn")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.doctest",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "benchmark_tables",
]
exclude_patterns = ["_build", "_ext", "auto_examples/*.ipynb", "auto_examples/*.py.md5"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"siamlearn {version}"
html_static_path: list[str] = []
html_show_sphinx = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True

# Reference: names from __all__, in the order of the source, types as they are written.
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_display_short_literal_types = True
python_maximum_signature_line_length = 80
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Source"]
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_attr_annotations = False  # the signature has them; a shape of "*k" would begin emphasis

# The examples in docstrings are run by the tests; here, only the pages' own directives.
doctest_test_doctest_blocks = ""
doctest_default_flags = doctest.ELLIPSIS
doctest_global_setup = "import torch\ntorch.set_num_threads(1)"

# Links to other projects are looked up only where a network is asked for.
if os.environ.get("SIAMLEARN_INTERSPHINX"):
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "matplotlib": ("https://matplotlib.org/stable", None),
    }

# Functions are named, not passed: Sphinx keeps the configuration from build to build.
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"att_faces",
    "plot_gallery": True,
    "reset_argv": "gallery_run.arguments",
    "image_scrapers": ("gallery_run.pictures",),
    "reset_modules": ("gallery_run.drawn_faces_only",),
    "capture_repr": (),
    "show_memory": False,
    "show_signature": False,
    "download_all_examples": False,
    "write_computation_times": False,
    "abort_on_example_error": True,
    "only_warn_on_example_error": False,
}
