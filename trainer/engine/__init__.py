"""The training loop's parts: steps, epochs, evaluation, checkpoints."""
