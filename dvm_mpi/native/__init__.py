"""Compiled code: built once per kind of machine by a process of its own, loaded without numba."""
