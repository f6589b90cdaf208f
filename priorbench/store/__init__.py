"""A results folder on disk."""
