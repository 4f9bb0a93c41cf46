"""Control plane: life cycle, scheduling, workers; state machines with a thin driver around."""
