"""The report of a run: on the terminal, as a page, as figures for papers and as a LaTeX table."""
