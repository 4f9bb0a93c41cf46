"""`python -m dvm_mpi doctor`: whether DVM can run here, and run fast; what to do if not."""
