"""``priorbench report``."""

import click

FIGURE_FORMATS = ("pdf", "svg", "png")


@click.command()
@click.argument("runs", nargs=-1, required=True)
@click.option(
    "--output",
    type=click.Path(),
    help="The file of the page, or a folder for it. [default: report.html in the run's folder; "
    "for several runs, in the current folder]",
)
@click.option(
    "--figures",
    help="Also write figures for papers, into figures/: pdf, svg or png; separate several by "
    "commas.",
)
@click.option(
    "--latex",
    is_flag=True,
    help="Also write table.tex: the best settings, with booktabs rules.",
)
def report(runs: tuple[str, ...], output: str | None, figures: str | None, latex: bool) -> int:
    """Write the page report.html for RUNS (results folders, or their comparison.csv)."""
    import os
    from pathlib import Path

    from rich.console import Console

    from ..errors import unknown

    formats = list(dict.fromkeys(f.strip() for f in (figures or "").split(",") if f.strip()))
    for name in formats:
        if name not in FIGURE_FORMATS:
            raise unknown("format of figures", name, FIGURE_FORMATS)
    from ..report.page import write_report

    first = Path(runs[0])
    alone = first if os.path.isdir(first) else first.parent  # a name too long is no folder
    folder = Path() if len(set(runs)) > 1 else alone
    target = Path(output) if output else folder
    target = target if target.suffix in (".html", ".htm") else target / "report.html"
    found = write_report(list(runs), target)
    written = [target]
    if formats:
        from ..report.static import write_figures

        written += write_figures(found.figures, target.parent / "figures", formats)
    if latex:
        from ..report.latex import write_latex

        written.append(write_latex(found, target.parent / "table.tex"))
    console = Console()
    console.print(found.verdict.words, style="bold", highlight=False, markup=False)
    for path in written:
        console.print(str(path), highlight=False, markup=False, soft_wrap=True)
    return 0
