"""Distributed shared memory: homes, frames, snapshots, epochs; state machines without MPI."""
