"""Doors to the outside: array files, the run report, the progress line, the console."""
