"""Optional libraries, which come with an extra of the package."""

from __future__ import annotations

from importlib.util import find_spec

from gantrain.errors import ConfigError


def require(*libraries: str, extra: str, by: str) -> None:
    """Refuse to go on without some importable libraries.

    Raises:
        ConfigError: One is missing; the message has the command that installs them. ``by`` is what needs them.
    """
    for library in libraries:
        if find_spec(library) is None:
            raise ConfigError(f"{by} needs the package {library}: pip install 'gantrain[{extra}]'")
