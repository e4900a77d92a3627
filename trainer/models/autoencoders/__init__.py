"""Autoencoders that are trained already: pictures become latents, and latents pictures."""
