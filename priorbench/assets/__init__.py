"""Shipped weights, each in a folder with the command that made it."""

from pathlib import Path


def folder(name: str) -> Path:
    """The path of a shipped folder."""
    return Path(__file__).parent / name
