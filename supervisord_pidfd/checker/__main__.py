"""Start the checker: `python -I -m supervisord_pidfd.checker`."""

from supervisord_pidfd.checker.main import main

main()
