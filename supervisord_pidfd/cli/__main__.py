"""Start `pidfdctl` as `python -m supervisord_pidfd.cli`."""

import sys

from supervisord_pidfd.cli.main import main

sys.exit(main())
