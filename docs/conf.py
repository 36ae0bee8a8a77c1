"""Settings of the documentation site: `make docs`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE))

from reference_pages import write_reference_pages  # noqa: E402

project = "AdapterTune Bench"
author = "The AdapterTune Bench contributors"
copyright = author

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
html_theme = "furo"
html_title = project
html_copy_source = False

# Pages are read on GitHub too: links between them are files, and headings are reached by GitHub's names.
myst_heading_anchors = 4
myst_enable_extensions = ["fieldlist"]
# A notebook's outputs are those that it was stored with; tests/docs/test_notebook.py executes it and compares.
nb_execution_mode = "off"

# Docstrings write code between single backticks.
default_role = "code"
python_maximum_signature_line_length = 80
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_use_ivar = True
# A dataclass lists its fields in its docstring.
autodoc_default_options = {"members": True, "undoc-members": False, "exclude-members": "__new__"}

suppress_warnings = ["myst.strikethrough"]


def setup(app: Any) -> None:
    """Write the generated pages before Sphinx looks for sources."""
    app.connect("builder-inited", lambda _: write_reference_pages(HERE / "reference"))
