"""Engines run attempts of runners on plain memory; they know no MPI, no homes and no commits."""
