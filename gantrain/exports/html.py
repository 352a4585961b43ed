"""One HTML page that runs a model in a browser, opened from the disk, without a connection."""

from __future__ import annotations

import base64
import gzip
import html
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor

from gantrain import __version__
from gantrain.config.extras import require
from gantrain.data.base import Batch, ImageDataset
from gantrain.errors import ConfigError
from gantrain.exports.browser import BrowserRuntime
from gantrain.exports.onnx_file import LIBRARIES, OnnxFormat
from gantrain.exports.source import Source
from gantrain.models.base import LatentGAN
from gantrain.models.infogan import InfoGAN
from gantrain.report.images import to_image
from gantrain.runtime.scratch import scratch_folder

EXAMPLES = 6  # Test images on the page.
EXAMPLE_SIDE = 256  # Pixels, at most.
DIRECTIONS = {"a_to_b": "A to B", "b_to_a": "B to A"}


@dataclass(frozen=True)
class HtmlFormat:
    """Writes pages.

    Args:
        half: Whether weights are stored as float16.
        opset: Of ONNX.
        ort: The folder of the npm package ``onnxruntime-web``; None for the cache.
        test_images: Returns the test images of the run's data set, for examples.
    """

    half: bool
    opset: int
    ort: str | None
    test_images: Callable[[], ImageDataset]
    suffix = ".html"
    whole = True

    def write(self, sources: Sequence[Source], path: Path) -> None:
        """Write the page, which contains everything."""
        require(*LIBRARIES, extra="export", by="format=html")
        for source in sources:
            ins, outs = source.channels
            if not source.is_8_bit or outs not in (1, 3) or ins not in (0, 1, 3):
                raise ConfigError(
                    "format=html shows images of 8 bits with 1 or 3 channels, and those of this model have "
                    f"{outs} ({source.spec.depth}): give format=onnx"
                )
        found = BrowserRuntime.find(self.ort)
        parts = {f"model-{source.direction or 'sample'}": self._model(source) for source in sources}
        parts |= {"wasm": found.wasm, "module": found.module.encode()}
        page = {
            "TITLE": html.escape(f"{sources[0].facts['run']}, step {sources[0].facts['step']}"),
            "VERSION": __version__,
            "STYLE": _asset("model.css"),
            "SCRIPT": _asset("model.js"),
            "WORKER": _asset("worker.js"),
            "RUNTIME": found.runtime,
            "FACTS": json.dumps(self._facts(sources)).replace("<", "\\u003c"),
            "PARTS": "\n".join(_packed(name, content) for name, content in parts.items()),
        }
        text = re.sub("|".join(page), lambda word: page[word[0]], _asset("model.html"))
        path.write_text(text, encoding="utf-8")

    def difference(self, sources: Sequence[Source], path: Path) -> float:
        """The largest difference in grey levels between onnxruntime's images, of the page's model, and the model's."""
        text, worst = path.read_text(encoding="utf-8"), 0.0
        for source in sources:
            packed = re.search(rf'<script id="model-{source.direction or "sample"}"[^>]*>([^<]*)<', text)
            if packed is None:
                raise ConfigError(f"{path} does not contain its model")
            with scratch_folder() as folder:
                model = folder / "model.onnx"
                model.write_bytes(gzip.decompress(base64.b64decode(packed[1])))
                worst = max(worst, self._onnx.difference([source], model))
        return worst

    def usage(self, sources: Sequence[Source], path: Path) -> list[str]:
        """How the page is opened."""
        del sources
        return [f"# Open {path.as_posix()} in a browser; it needs no server and no connection."]

    @property
    def _onnx(self) -> OnnxFormat:
        return OnnxFormat("float", self.half, self.opset)

    def _model(self, source: Source) -> bytes:
        with scratch_folder() as folder:
            path = folder / "model.onnx"
            self._onnx.write([source], path)
            return path.read_bytes()

    def _facts(self, sources: Sequence[Source]) -> dict[str, Any]:
        """What the script needs to know."""
        model, facts = sources[0].model, sources[0].facts
        common = {
            "run": facts["run"],
            "about": f"{facts['model']['name']}, trained on images of {sources[0].spec.width} × "
            f"{sources[0].spec.height} pixels",
            "height": sources[0].spec.height,
            "width": sources[0].spec.width,
        }
        if isinstance(model, LatentGAN):
            categories, continuous = model.codes if isinstance(model, InfoGAN) else (0, 0)
            return {
                **common,
                "models": [{"name": "sample"}],
                "noise": model.noise,
                "latent_dim": model.latent_dim,
                "categories": categories,
                "continuous": continuous,
                "classes": list(model.spec.class_names) if model.uses_labels else [],
            }
        return {**common, "models": [self._direction(source) for source in sources]}

    def _direction(self, source: Source) -> dict[str, Any]:
        """A direction, with some test images of its source domain and the colours to draw in."""
        domain, images = source.domains[0], []
        try:
            dataset = self.test_images().of_domain(domain)
            items = (dataset.item(index, 0) for index in range(len(dataset)))
            images = [to_image(_of(item, domain) / 127.5 - 1) for item in islice(items, EXAMPLES)]
        except ConfigError:  # The data may be elsewhere.
            pass
        for image in images:
            image.thumbnail((EXAMPLE_SIDE, EXAMPLE_SIDE))
        levels = [level for image in images for level in image.convert("L").tobytes()]
        dark = not levels or sum(levels) / len(levels) < 128
        direction = source.direction or "a_to_b"
        return {
            "name": direction,
            "text": DIRECTIONS[direction],
            "channels": source.channels[0],
            "background": "#000000" if dark else "#ffffff",
            "pen": "#ffffff" if dark else "#000000",
            "examples": [*_addresses(images)],
        }


def _of(item: Batch, domain: str) -> Tensor:
    """The image of a domain, which may be without domains."""
    image: Tensor = item[domain if domain in item else "image"]
    return image


def _addresses(images: Sequence[Any]) -> Iterator[str]:
    """Images as addresses that contain them."""
    for image in images:
        file = io.BytesIO()
        image.save(file, "PNG")
        yield f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _packed(name: str, content: bytes) -> str:
    """Binary content as a script that no browser runs."""
    text = base64.b64encode(gzip.compress(content, mtime=0)).decode()
    return f'<script id="{name}" type="text/plain">{text}</script>'


def _asset(name: str) -> str:
    return files("gantrain.exports").joinpath("assets", name).read_text(encoding="utf-8").rstrip()
