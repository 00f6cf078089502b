"""Where things are when nobody says so."""

import pytest

from supervisord_pidfd.config.paths import default_file, default_log_dir, default_runtime_dir


def test_for_root():
    everything = {"XDG_CONFIG_HOME": "/x", "XDG_RUNTIME_DIR": "/x", "XDG_STATE_HOME": "/x"}

    assert default_file(0, everything) == "/etc/supervisord-pidfd/supervisord.toml"
    assert default_runtime_dir(0, everything) == "/run/supervisord-pidfd"
    assert default_log_dir(0, everything) == "/var/log/supervisord-pidfd"


def test_for_others_by_xdg():
    xdg = {"XDG_CONFIG_HOME": "/c", "XDG_RUNTIME_DIR": "/r", "XDG_STATE_HOME": "/s"}

    assert default_file(1000, xdg) == "/c/supervisord-pidfd/supervisord.toml"
    assert default_runtime_dir(1000, xdg) == "/r/supervisord-pidfd"
    assert default_log_dir(1000, xdg) == "/s/supervisord-pidfd/log"


@pytest.mark.parametrize("base", ["", "relative"])
def test_for_others_below_home(base):
    xdg = {"HOME": "/h", "XDG_CONFIG_HOME": base, "XDG_RUNTIME_DIR": base, "XDG_STATE_HOME": base}

    assert default_file(1000, xdg) == "/h/.config/supervisord-pidfd/supervisord.toml"
    assert default_runtime_dir(1000, xdg) is None
    assert default_log_dir(1000, xdg) == "/h/.local/state/supervisord-pidfd/log"
