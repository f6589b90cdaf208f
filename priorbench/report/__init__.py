"""What a run shows: sample grids and the terminal's table."""
