"""Where things are when nobody says so: the configuration, runtime and log directories."""

import os
from collections.abc import Mapping

PACKAGE = "supervisord-pidfd"


def default_file(uid: int, environment: Mapping[str, str]) -> str:
    """Return the configuration file that is read without `-c`."""
    if uid == 0:
        return f"/etc/{PACKAGE}/supervisord.toml"
    return os.path.join(_home(environment, "XDG_CONFIG_HOME", ".config"), "supervisord.toml")


def default_runtime_dir(uid: int, environment: Mapping[str, str]) -> str | None:
    """Return the directory of sockets and state; None where there is none for this user."""
    if uid == 0:
        return f"/run/{PACKAGE}"
    base = environment.get("XDG_RUNTIME_DIR", "")
    return os.path.join(base, PACKAGE) if base.startswith("/") else None


def default_log_dir(uid: int, environment: Mapping[str, str]) -> str:
    """Return the directory of log files."""
    if uid == 0:
        return f"/var/log/{PACKAGE}"
    return os.path.join(_home(environment, "XDG_STATE_HOME", ".local/state"), "log")


def _home(environment: Mapping[str, str], name: str, fallback: str) -> str:
    """Return our directory in an XDG base directory; a relative one is to be ignored."""
    base = environment.get(name, "")
    if not base.startswith("/"):
        base = os.path.join(environment.get("HOME", "/"), fallback)
    return os.path.join(base, PACKAGE)
