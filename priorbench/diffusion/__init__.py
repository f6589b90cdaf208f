"""The forward process, the frozen denoiser, the solvers, and how a denoiser is trained."""
