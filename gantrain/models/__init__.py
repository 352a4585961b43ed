"""The GANs. Importing this registers them."""

from gantrain.models import classifying, colorization, cut, cyclegan, infogan, latent, pix2pix

__all__ = ["classifying", "colorization", "cut", "cyclegan", "infogan", "latent", "pix2pix"]
