"""The parts of the printed lines of Python that are the same for all formats: reading an input, showing an output."""

from __future__ import annotations

from gantrain.exports.graph import Pixels
from gantrain.exports.source import Source
from gantrain.models.translation import Translator

MODES = {1: "L", 3: "RGB"}  # Pillow's names of images with so many channels.


def usage(source: Source, pixels: Pixels) -> tuple[list[str], list[str]]:
    """Lines that make the inputs of the graph as NumPy arrays, and lines that save its ``output`` as an image.

    Images of other than 1 or 3 channels, or of other than 8 bits, are stored as arrays.
    """
    ins, outs = source.channels
    if not isinstance(source.model, Translator):
        draw = "normal(" if source.model.noise == "normal" else "uniform(-1, 1, "
        codes = "  # noise, then codes" if source.model.latent_size > source.model.latent_dim else ""
        size = f"size=(1, {source.model.latent_size})"
        before = [f'latents = numpy.random.{draw}{size}).astype("float32"){codes}']
        if source.model.uses_labels:
            before.append(f"labels = numpy.array([0])  # 0 to {source.spec.num_classes - 1}")
    elif ins in MODES and source.is_8_bit:
        axes = "[..., None]" if ins == 1 else ""
        before = [f'image = numpy.asarray(PIL.Image.open("photo.png").convert("{MODES[ins]}")){axes}[None]']
        if pixels == "float":
            before.append('image = image.transpose(0, 3, 1, 2).astype("float32") / 127.5 - 1')
    else:
        before = [f'image = numpy.load("image.npy")  # (N, {ins}, height, width) as float32 in [-1, 1]']
    if outs not in MODES or not source.is_8_bit:
        return before, ['numpy.save("output.npy", output)']
    if pixels == "float":
        after = ['output = ((output.clip(-1, 1) + 1) * 127.5).round().astype("uint8").transpose(0, 2, 3, 1)']
    else:
        after = []
    return before, [*after, f'PIL.Image.fromarray(output[0]{"[..., 0]" if outs == 1 else ""}).save("output.png")']
