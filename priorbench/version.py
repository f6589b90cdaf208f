"""The versions of priorbench and of its figures: the one place where they are written."""

__version__ = "0.2.0.dev0"

# Raise this whenever our own code would give a cell other figures: results of earlier code are then
# computed again.
MEASUREMENT = "10"
