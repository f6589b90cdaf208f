"""Measures of x_0 and of x_{t_trunc} against held-out images."""
