"""The GANs. Importing this files them by name."""

from gantrain.models import classifying, infogan, latent

__all__ = ["classifying", "infogan", "latent"]
