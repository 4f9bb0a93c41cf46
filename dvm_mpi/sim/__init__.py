"""Runs of the machine that are recorded, and checked against a naive account of what happened."""
