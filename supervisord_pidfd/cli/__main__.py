"""Start `pidfdctl` as `python -m supervisord_pidfd.cli`."""

from supervisord_pidfd.cli.main import program

program()
