"""``priorbench compare``."""

import click


@click.command()
@click.argument("runs", nargs=-1, required=True)
@click.option(
    "--output",
    type=click.Path(file_okay=False),
    help="A folder for the three tables and the page. [default: write none]",
)
def compare(runs: tuple[str, ...], output: str | None) -> int:
    """Fold RUNS (results folders, or their comparison.csv) into one table.

    Runs can differ in priors, seeds, t_trunc, solvers and machines. Runs that differ in data set,
    backbone, extractor, sample count, split, precision or concurrency are not ranked: the error
    names the column.
    """
    from pathlib import Path

    from ..errors import UserError
    from ..files import write_atomically
    from ..report.page import write_report
    from ..report.terminal import output_console, show
    from ..tables.compare import differences, fold, read_run

    names = list(dict.fromkeys(runs))
    tables = [(name, read_run(name)) for name in names]
    if found := differences(tables):
        raise UserError(f"these runs cannot be ranked in one table: {'. '.join(found)}")
    table, means, chosen = fold(tables)
    console = output_console()
    show(table, means, chosen, console)
    if output:
        for file, frame in {"comparison": table, "summary": means, "best": chosen}.items():
            write_atomically(Path(output) / f"{file}.csv", frame.to_csv(index=False).encode())
        write_report(names, Path(output) / "report.html")
        files = "comparison.csv, summary.csv, best.csv, report.html"
        console.print(f"{output}: {files}", highlight=False, markup=False)
    return 0
