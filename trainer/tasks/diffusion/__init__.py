"""Diffusion: a conditional model that makes latents of pictures out of noise."""
