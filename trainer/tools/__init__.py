"""The work of the commands beside training, one module each."""
