"""A number that is used again is somebody else's: no old record may reach it."""

import subprocess
from pathlib import Path

import pytest

import supervisord_pidfd
from tests.support.world import program

ROOT = Path(supervisord_pidfd.__file__).parents[1]


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.parametrize("groups", ["groups", "no groups"])
def test_an_old_record_never_signals_a_newcomer(reaper_mode, groups):
    done = subprocess.run(
        [
            *("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"),
            *program("pid_reuse", reaper_mode, groups, str(ROOT)),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.stdout == "ok\n", done.stderr
