"""The parts of the training loop: steps, epochs, evaluation, checkpoints."""
