"""A calibrated model: the simulated machine with what each step costs, and the shapes of jobs."""
