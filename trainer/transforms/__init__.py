"""Batched tensors on the device: floats, normalisation, augmentation."""
