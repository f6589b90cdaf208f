"""The forward process, the frozen denoiser, the solvers, and the training of a denoiser."""
