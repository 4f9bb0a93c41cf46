"""Judges a run's isolation by what its attempts loaded and stored, and by nothing else."""
