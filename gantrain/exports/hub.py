"""A folder for the Hugging Face Hub: ``config.json``, ``model.safetensors`` and a model card with samples."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from gantrain.config.extras import require
from gantrain.errors import ConfigError, reason_of
from gantrain.exports.source import Source
from gantrain.exports.weights_file import SafetensorsFormat, largest_difference, loading
from gantrain.inference.hub import CONFIG, WEIGHTS, load_hub
from gantrain.models.base import COLUMNS, LatentGAN
from gantrain.report.images import grid
from gantrain.report.log import CLOCK, PROTOCOL, Line

CARD, SAMPLES = "README.md", "samples.png"
OWN = "the model's own, on the test images"  # The protocol of metrics without one.
FILES = (CONFIG, WEIGHTS, CARD, SAMPLES)


@dataclass(frozen=True)
class HubFormat:
    """Writes hub folders.

    Args:
        half: Whether weights are stored as float16.
        licence: An identifier of the hub, such as ``cc-by-4.0``; None for none.
        command: That of the run.
        data: The name of the data set.
        metrics: Lines of the run's logs; those of losses without a ``protocol``, of which held-out metrics are shown.
        images: An image file that shows what the model does; None for samples of a model from noise.
    """

    half: bool
    licence: str | None
    command: str
    data: str
    metrics: Sequence[Line] = ()
    images: Path | None = None
    suffix = "_hub"
    whole = True

    def write(self, sources: Sequence[Source], path: Path) -> None:
        """Write all files into an empty folder."""
        source = sources[0]
        (path / CONFIG).write_text(json.dumps(source.facts, indent=2) + "\n", encoding="utf-8")
        SafetensorsFormat(self.half).write(sources, path / WEIGHTS)
        if isinstance(source.model, LatentGAN):
            latents, labels = _rows(source.model)
            grid(source.model.sample(latents, labels), COLUMNS).save(path / SAMPLES)
        elif self.images is not None:
            (path / SAMPLES).write_bytes(self.images.read_bytes())
        (path / CARD).write_text(self._card(sources, shown=(path / SAMPLES).exists()), encoding="utf-8")

    def difference(self, sources: Sequence[Source], path: Path) -> float:
        """The largest difference in grey levels between the images of the rebuilt model and the model's."""
        return largest_difference(sources, load_hub(path, torch.device("cpu"))[0])

    def usage(self, sources: Sequence[Source], path: Path) -> list[str]:
        """Lines of Python that use the folder."""
        return loading(sources, path)

    def _card(self, sources: Sequence[Source], *, shown: bool) -> str:
        source = sources[0]
        facts, name = source.facts, source.facts["model"]["name"]
        task = "unconditional-image-generation" if source.direction is None else "image-to-image"
        head = ["---", "library_name: gantrain", f"pipeline_tag: {task}", f"tags: [gan, {json.dumps(name)}]"]
        head += [f"license: {json.dumps(self.licence)}"] if self.licence is not None else []
        size = f"{source.spec.height} x {source.spec.width} pixels"
        what = (
            "generates images" if source.direction is None else f"translates images ({', '.join(_directions(sources))})"
        )
        body = [f"# {_inline(facts['run'])}", ""]
        body += [f"![What the model makes]({SAMPLES})", ""] if shown else []
        body += [f"A {_inline(name)} that {what} of {size}, trained with gantrain on {_inline(self.data)}.", ""]
        body += ["## Use", "", *_block("python", loading(sources, Path("PATH/OF/THIS/FOLDER"))), ""]
        rows = [
            f"| {_inline(key)} | {value:.6g} | {_inline(line.get(PROTOCOL, OWN))} |"
            for line in self.metrics
            for key, value in line.items()
            if key not in (*CLOCK, PROTOCOL) and (PROTOCOL in line or key.startswith("held_out_"))
        ]
        if rows:
            body += ["## Metrics", "", "| metric | value | protocol |", "|---|---|---|", *rows, ""]
        commit = f", commit {_inline(facts['revision'])}" if facts["revision"] else ""
        body += ["## Training", "", *_block("bash", [self.command]), ""]
        body += [f"Step {facts['step']}; exported by gantrain {_inline(facts['gantrain'])}{commit}."]
        return "\n".join([*head, "---", "", *body, ""])


def upload(folder: Path, to: str) -> str:
    """Upload a hub folder to ``hf:USER/NAME``, with the account that huggingface_hub is logged in to.

    Returns:
        The address of the model.

    Raises:
        ConfigError: huggingface_hub is missing, or the upload fails.
    """
    name = to.removeprefix("hf:")
    require("huggingface_hub", extra="hub", by=f"to={to}")
    import huggingface_hub

    try:
        api: Any = huggingface_hub.HfApi()
        api.create_repo(name, repo_type="model", exist_ok=True)
        api.upload_folder(repo_id=name, repo_type="model", folder_path=str(folder), allow_patterns=list(FILES))
    except Exception as error:  # Of the network, the account, or the service.
        raise ConfigError(f"can't upload {folder} to {to}: {reason_of(error)}; hf auth login logs in") from None
    return f"https://huggingface.co/{name}"


def _rows(model: LatentGAN) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Latents and labels of a grid of samples; with labels, a row per class."""
    if not model.uses_labels:
        return model.latents(COLUMNS * 5, seed=0), None
    rows = min(COLUMNS, model.spec.num_classes)
    return model.latents(COLUMNS, seed=0).repeat(rows, 1), torch.arange(rows).repeat_interleave(COLUMNS)


def _directions(sources: Sequence[Source]) -> list[str]:
    return [cast(str, source.direction) for source in sources]


def _inline(text: object) -> str:
    """Text in which Markdown and HTML have no effect, on one line."""
    plain = " ".join(str(text).split())
    return "".join(f"\\{each}" if each in "\\`*_{}[]<>()#+!|~$&" else each for each in plain)


def _block(language: str, lines: Sequence[str]) -> list[str]:
    """A block of code, whose fence is longer than any in it."""
    fence = "```"
    while any(fence in line for line in lines):
        fence += "`"
    return [f"{fence}{language}", *lines, fence]
