"""How Sphinx builds the site. `make docs` builds it; nothing is fetched while it does, nor by the pages that come out."""

import os
import sys
from pathlib import Path

import deconvnet

# The extensions of our own lie beside this file.
sys.path.insert(0, str(Path(__file__).parent))

project = "deconvnet"
author = copyright = "The deconvnet developers"
version = release = deconvnet.__version__

# myst_nb reads Markdown and notebooks. No intersphinx: it would fetch other projects' lists of names.
extensions = ["myst_nb", "sphinx.ext.autodoc", "command_options", "docstrings", "root_pages"]

# The pages are read on GitHub as well, which makes an address of every heading by the same rule, so `#the-projection` works.
myst_heading_anchors = 4
# Code in Markdown that does not say its language is commands, listings or tables.
highlight_language = "text"

# The notebook takes minutes, so it is run only where its pictures are wanted: `make docs` sets "force".
nb_execution_mode = os.environ.get("NOTEBOOKS", "off")
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True
# Its widgets' scripts would come from a public server.
nb_ipywidgets_js = {}

# Docstrings write code between single backticks; names of this package become links.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autoclass_content = "both"  # what __init__ says of its parameters stands under the class
autodoc_inherit_docstrings = False  # torch.nn.Module's say nothing of ours
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "deconvnet"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
templates_path: list[str] = []
exclude_patterns = ["figures", "pictures", "**.ipynb_checkpoints"]
