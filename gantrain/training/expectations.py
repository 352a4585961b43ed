"""What runs of a length on a number of images usually end in."""

from __future__ import annotations

from gantrain.config.settings import TrainerSettings
from gantrain.data.base import BUILT_IN
from gantrain.data.stream import BatchStream
from gantrain.data.tools.recommend import IMAGES_FROM_NOISE
from gantrain.models.base import GAN, LatentGAN

LATE_STEP = 10**6  # After every warm-up of a critic.

# A round number between two measurements: with 64 pixels and 400 images, dcgan makes gray noise after 19 thousand
# images, and blobs after 96 thousand; on CIFAR-10 it is best after 5,376 (configs/experiment/dcgan_cifar10.yaml).
KIMG_FROM_NOISE = 1000
# 200 epochs of 400 pairs, the smallest set of pix2pix: Isola et al. 2017, arXiv:1611.07004.
KIMG_FROM_IMAGES = 80


def expectations(model: GAN, stream: BatchStream, settings: TrainerSettings, *, mode: str) -> list[str]:
    """What this run lacks in comparison with usual ones, and what to expect of it; empty for a usual run.

    Args:
        model: A model that starts from noise, or one that translates images.
        stream: The training images.
        settings: The length of the run.
        mode: ``data.mode``.
    """
    if mode in BUILT_IN:
        return []
    from_noise = isinstance(model, LatentGAN)
    kimg = KIMG_FROM_NOISE if from_noise else KIMG_FROM_IMAGES
    lines = []
    planned = _planned_images(model, stream, settings)
    if planned < kimg * 1000:
        result = "noise or blobs" if from_noise else "blurred results"
        lines.append(
            f"this run draws {planned / 1000:,.1f} thousand images, usual ones {kimg:,} thousand or more "
            f"(trainer.kimg={kimg}): expect {result}"
        )
    if from_noise and stream.size < IMAGES_FROM_NOISE:
        lines.append(
            f"{stream.size:,} image{'s are' if stream.size > 1 else ' is'} few for a model that starts from noise, "
            f"which usually has {IMAGES_FROM_NOISE:,} or more: the discriminator may memorise them"
        )
    return lines


def repetition(images: int, batch_size: int) -> list[str]:
    """A warning if a batch has more images than the data set."""
    if images >= batch_size:
        return []
    whole = "the only image of the data set" if images == 1 else f"every one of the {images:,} images of the data set"
    return [
        f"warning: data.batch_size={batch_size}: each batch contains {whole} about {batch_size / images:.3g} times, "
        f"cropped and mirrored anew if data.preprocess and data.flip do so; data.batch_size={images} contains it once"
    ]


def mirroring(model: GAN, *, flip: bool) -> list[str]:
    """A warning if the model mirrors what it translates, and images are never mirrored.

    Args:
        model: The model.
        flip: ``data.flip``.
    """
    if flip or not getattr(model, "flip_equivariance", False):
        return []
    return [
        "warning: model.flip_equivariance=true mirrors the generator's inputs, but with data.flip=false no image of B "
        "is mirrored, which is enough for the discriminator to recognise generated images; give data.flip=true, or "
        "model.flip_equivariance=false"
    ]


def _planned_images(model: GAN, stream: BatchStream, settings: TrainerSettings) -> float:
    if settings.epochs is not None:
        return settings.epochs * stream.size
    if settings.kimg is not None:
        return settings.kimg * 1000
    batches = model.critic_steps_at(LATE_STEP) + model.loss.compares if isinstance(model, LatentGAN) else 1
    return (settings.steps or 0) * batches * stream.batch_size
