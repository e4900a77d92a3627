"""Synthetic pictures: a run of the task diffusion is watched, and its model makes pictures."""
