"""Start the gateway: `python -I -m supervisord_pidfd.gateway`."""

from supervisord_pidfd.gateway.main import main

raise SystemExit(main())
