"""Autoencoders: a model that makes pictures small, as latents, and large again."""
