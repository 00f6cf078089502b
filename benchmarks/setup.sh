#!/bin/sh
# Install what the benchmarks compare with: a C compiler, s6, runit and daemontools from Debian (as
# root), and Supervisor from PyPI into an environment of its own, benchmarks/.venv. Each is optional:
# what is missing is named and left out. Nothing is started.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    # The package "runit" only; "runit-run" and the like would start services of their own.
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        gcc libc6-dev s6 runit daemontools >/dev/null
else
    echo "not root, or no apt-get: install gcc, libc6-dev, s6, runit and daemontools yourself" >&2
fi
"${PYTHON:-python3}" -m venv "$here/.venv"
"$here/.venv/bin/pip" install --quiet 'supervisor>=4.2'
for name in cc s6-svscan s6-supervise s6-log runsvdir runsv svlogd multilog; do
    command -v "$name" || echo "$name: not installed"
done
echo "$here/.venv/bin/supervisord"
