"""The GANs. Importing this registers them."""

from gantrain.models import classifying, colorization, cyclegan, infogan, latent, pix2pix

__all__ = ["classifying", "colorization", "cyclegan", "infogan", "latent", "pix2pix"]
