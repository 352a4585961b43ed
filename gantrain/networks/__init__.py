"""Generators and discriminators: modules that are independent of the models. Importing this registers them."""

from gantrain.networks import dcgan, mlp, patchgan, resnet, resnet_gan, unet

__all__ = ["dcgan", "mlp", "patchgan", "resnet", "resnet_gan", "unet"]
