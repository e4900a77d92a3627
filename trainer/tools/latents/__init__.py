"""The work of the commands on latents: pictures encoded once for all training, and the check of the autoencoder."""
