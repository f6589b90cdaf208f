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
maximum_signature_line_length = 88
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_use_rtype = False  # else "Returns:" takes the words before a colon for a type

# Every reference must lead somewhere. Those to other projects cannot: the build reads nothing from
# the internet.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(collections|contextlib|numpy|pandas|pathlib|pluggy|time|torch|typing)\..*"),
]
nitpick_ignore = [
    ("py:class", "priorbench.diffusion.process.Time"),  # a type variable
    ("py:class", "priorbench.plan.config.RunConfig"),  # its keys are a table of docs/reference.md
    ("py:class", "Source"),
    ("py:class", "priorbench.metrics.neighbours.Nearest"),
    ("py:class", "priorbench.subject.Failed"),
    ("py:class", "priorbench.store.fits.Fits"),
]

html_theme = "furo"
html_title = f"priorbench {release}"


COLON, STAND_IN = ":", "\N{RATIO}"


def hide_colons(app, what, name, obj, options, lines):
    """Keep napoleon from taking the words before a colon for the type of a property or constant."""
    if what in ("property", "data", "attribute"):
        lines[:] = [line.replace(COLON, STAND_IN) for line in lines]


def show_colons(app, what, name, obj, options, lines):
    if what in ("property", "data", "attribute"):
        lines[:] = [line.replace(STAND_IN, COLON) for line in lines]


def setup(app):
    app.connect("autodoc-process-docstring", hide_colons, priority=400)  # napoleon's is 500
    app.connect("autodoc-process-docstring", show_colons, priority=600)
