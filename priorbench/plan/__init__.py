"""What a run is told, and the cells that it is laid out in."""
