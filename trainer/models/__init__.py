"""Models and their parts, which several tasks use."""
