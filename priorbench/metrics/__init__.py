"""Metrics of samples x_0 and x_{t_trunc} against held-out images."""
