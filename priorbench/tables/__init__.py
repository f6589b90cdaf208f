"""Rows folded into tables, settings chosen, verdicts worded. Knows pandas, and no torch."""
