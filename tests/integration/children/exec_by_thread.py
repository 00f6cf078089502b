"""Execute `sh` from a thread that is not the leader: it says `ready <pid>` and stops.

After SIGUSR1 and SIGCONT it ends with 23.
"""

import os
import threading

SCRIPT = 'trap "exit 23" USR1; echo "ready $$" >&3; kill -STOP $$; exit 1'

threading.Thread(target=lambda: os.execv("/bin/sh", ["sh", "-c", SCRIPT])).start()
threading.Event().wait()
