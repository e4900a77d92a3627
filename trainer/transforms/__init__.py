"""Transforms of batched clips on the device: floats, normalisation, augmentation."""
