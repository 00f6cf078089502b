"""`python -m supervisord_pidfd`: the daemon command."""

import sys

from supervisord_pidfd.entry import main

if __name__ == "__main__":
    sys.exit(main())
