"""ONNX Runtime Web: the files of its npm package that a page needs to run a model."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from gantrain.errors import ConfigError
from gantrain.runtime.atomic import cache_dir
from gantrain.runtime.directories import atomic_dir
from gantrain.runtime.scratch import scratch_folder

VERSION = "1.30.0"
PACKAGE = f"onnxruntime-web@{VERSION}"
RUNTIME, MODULE, WASM = "ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"
SECONDS = 300  # To fetch it, at most.


@dataclass(frozen=True)
class BrowserRuntime:
    """The content of its files."""

    runtime: str  # A classic script, which begins with its copyright and licence.
    module: str  # Which that script imports.
    wasm: bytes

    @classmethod
    def find(cls, folder: str | None, *, fetch: bool = True) -> BrowserRuntime:
        """Read the files from a folder, or from the cache, into which npm fetches them once.

        Args:
            folder: The npm package ``onnxruntime-web``, or a ``node_modules`` with it; None for the cache.
            fetch: Whether npm may fetch them.

        Raises:
            ConfigError: They are not there, and npm can't fetch them.
        """
        home = Path(folder).expanduser() if folder is not None else fetched(fetch=fetch)
        for place in (home, home / "dist", home / "onnxruntime-web" / "dist"):
            if all((place / name).is_file() for name in (RUNTIME, MODULE, WASM)):
                return cls(
                    (place / RUNTIME).read_text(encoding="utf-8"),
                    (place / MODULE).read_text(encoding="utf-8"),
                    (place / WASM).read_bytes(),
                )
        raise ConfigError(f"ort={folder}: expected the npm package onnxruntime-web, with {RUNTIME} and {WASM} in dist/")


def fetched(*, fetch: bool = True) -> Path:
    """The folder in the cache, into which npm fetches the files if they are not there."""
    target = cache_dir() / "browser" / f"onnxruntime-web-{VERSION}"
    if target.is_dir() or not fetch:
        return target
    npm = shutil.which("npm")
    remedy = f"ort=FOLDER names a folder in which `npm install {PACKAGE}` was run elsewhere"
    if npm is None:
        raise ConfigError(f"format=html needs {PACKAGE}, and npm, which fetches it, is not installed; or {remedy}")
    with atomic_dir(target) as folder, scratch_folder() as scratch:
        try:
            subprocess.run(
                [npm, "pack", "--silent", PACKAGE], cwd=scratch, check=True, capture_output=True, timeout=SECONDS
            )
        except (subprocess.SubprocessError, OSError) as error:
            output = getattr(error, "stderr", None) or b""
            reason = (output.decode(errors="replace").strip().splitlines() or [type(error).__name__])[-1]
            raise ConfigError(f"format=html needs {PACKAGE}, and npm can't fetch it ({reason}); or {remedy}") from None
        folder.mkdir()
        (archive,) = scratch.glob("*.tgz")
        with tarfile.open(archive) as package:
            for name in (RUNTIME, MODULE, WASM):
                member = package.extractfile(f"package/dist/{name}")
                if member is None:
                    raise ConfigError(f"{PACKAGE} has no dist/{name}; or {remedy}")
                (folder / name).write_bytes(member.read())
    return target
