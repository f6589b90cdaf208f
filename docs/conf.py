"""The site: ``make docs`` builds it, strictly, without the internet."""

from datetime import date

import priorbench
from priorbench.tables.columns import ROLES, SCHEMA


def column_table() -> str:
    """The columns of comparison.csv as a Markdown table, in the order of the file."""
    rows = [f"| `{c.name}` | {c.meaning} | {c.roles.replace(' ', ', ')} |" for c in SCHEMA]
    return "\n".join(["| column | meaning | roles |", "|---|---|---|", *rows])


def role_table() -> str:
    """What each role of a column means, as a Markdown table."""
    rows = [f"| {role} | The column {meaning}. |" for role, meaning in ROLES.items()]
    return "\n".join(["| role | meaning |", "|---|---|", *rows])


project = "priorbench"
author = "The priorbench developers"
copyright = f"{date.today().year}, {author}"
version = release = priorbench.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
]
myst_enable_extensions = ["substitution"]
myst_heading_anchors = 3
myst_substitutions = {"columns": column_table(), "roles": role_table()}

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_use_ivar = True

nitpicky = True

html_theme = "furo"
html_title = f"priorbench {release}"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
