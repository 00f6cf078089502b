"""Records as the core sends them, and a loop for coroutines that wait for nothing."""


def totals(**changed):
    return {
        "restarts": {},
        "exits": {},
        "start_limit_hits": 0,
        "kill_escalations": 0,
        "user_cpu_s": 0.0,
        "system_cpu_s": 0.0,
    } | changed


def plain(name, **changed):
    return {
        "name": name,
        "group": "",
        "type": "simple",
        "restart": "always",
        "critical": False,
        "phase": "running",
        "wanted": "up",
        "ready": True,
        "health": "none",
        "checks": [],
        "pid": 7,
        "run": 1,
        "since_ts": 0.0,
        "started_ts": 0.0,
        "attempt": 0,
        "last_exit": None,
        "internal": name.startswith(":"),
        "totals": totals(),
        "max_rss_bytes": None,
    } | changed


def drive(coroutine, at_each_turn=lambda: None):
    """Run a coroutine that only ever yields its turn; return what it returns."""
    while True:
        try:
            coroutine.send(None)
        except StopIteration as stop:
            return stop.value
        at_each_turn()
