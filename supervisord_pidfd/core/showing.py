"""A service's effective configuration as TOML text, from what its files say of it."""

from supervisord_pidfd.core.reload import HIDDEN, lines_of
from supervisord_pidfd.core.spec import ServiceSpec

ORIGIN_COLUMN = 48


def toml_of(spec: ServiceSpec, *, origin: bool, hide_environment: bool) -> str:
    """Write one service as a table, key by key, in the order of the file.

    Args:
        spec: The service; secrets are masked in it already.
        origin: Add where each line stands.
        hide_environment: Show the names of its variables and not their values.
    """
    said = [f"[service.{_table(spec.name)}]"]
    for line in lines_of(spec):
        value = line.value
        if hide_environment and line.key.partition(".")[0] == "environment":
            value = f'"{HIDDEN}"'
        text = f"{line.key} = {value}"
        said.append(f"{text:<{ORIGIN_COLUMN}}  # {line.file}:{line.line}" if origin else text)
    return "\n".join(said) + "\n"


def _table(name: str) -> str:
    """Quote a name that is no bare key of TOML: `worker@3`."""
    return f'"{name}"' if "@" in name else name
