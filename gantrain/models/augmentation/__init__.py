"""Augmentation of the images that a discriminator sees, real and generated, with gradients to the generator."""
