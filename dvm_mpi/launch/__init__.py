"""What is checked before MPI starts, and what remains when a run dies; it never imports MPI."""
