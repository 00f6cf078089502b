"""Start the logger: `python -I -m supervisord_pidfd.logger`."""

from supervisord_pidfd.logger.main import main

raise SystemExit(main())
