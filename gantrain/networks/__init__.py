"""Generators and discriminators: plain modules that know nothing of GANs. Importing this files them by name."""

from gantrain.networks import dcgan, mlp, patchgan, pixelgan, resnet, unet

__all__ = ["dcgan", "mlp", "patchgan", "pixelgan", "resnet", "unet"]
