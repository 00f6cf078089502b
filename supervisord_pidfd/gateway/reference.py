"""Write the reference of the metrics from `METRICS`.

`python -m supervisord_pidfd.gateway.reference > docs/metrics.md`
"""

import sys

from supervisord_pidfd.core.metrics import METRICS, QUICK, SLOW, Metric, Part

_INTRO = """\
# Metrics

Generated from `METRICS` in `supervisord_pidfd/core/metrics.py` by
`python -m supervisord_pidfd.gateway.reference`; a test keeps the two in step.

`metrics.listen` switches the gateway on. It serves `/metrics` as Prometheus text 0.0.4 or as
OpenMetrics 1.0, whichever the scraper asks for. `/metrics?collect[]=daemon` limits the answer to a
part; the parameter may be repeated.

- If the core does not answer within a second, the answer is `supervisord_up 0` and nothing else:
  nothing that might be old is shown as present.
- Counters are counted by the core. A restart of the gateway, of the logger or of the checker loses
  none; nor does a reload that restarts a service.
- A cause, stage or error appears when it first happens. A stopped service keeps its counters and
  what tells its state; what is measured of a process, and the verdict of a check, is absent while
  there is none. A removed service loses all its series.
- `metrics.include` and `metrics.exclude` are regular expressions that match the whole name of a
  service.
- `supervisord_service_phase` is exported for up to 1000 services, unless `metrics.phases` says
  otherwise.
- The part `resources` is read from `/proc` on a scrape, at most every `metrics.sample_every`; a
  run that was not seen yet is read at once.
- `process_*` describes the core.
"""

_TITLES = {
    Part.DAEMON: "The daemon",
    Part.SERVICES: "Each service",
    Part.RESOURCES: "What each service uses",
    Part.LOGS: "What each service writes",
    Part.CHECKS: "Health checks",
}


def reference() -> str:
    """Return the text of `docs/metrics.md`."""
    parts = [_INTRO]
    for part, title in _TITLES.items():
        rows = "\n".join(_row(metric) for metric in METRICS if metric.part is part)
        head = f"## {title} (`collect[]={part.value}`)\n\n| name | type | meaning |\n|---|---|---|"
        parts.append(f"{head}\n{rows}\n")
    parts.append(
        "## Buckets\n\n"
        f"- Lag, exit handling, spawn (seconds): {_bounds(QUICK)}\n"
        f"- Start, stop (seconds): {_bounds(SLOW)}\n"
    )
    return "\n".join(parts)


def _row(metric: Metric) -> str:
    labels = "{" + ",".join(metric.labels) + "}" if metric.labels else ""
    return f"| `{metric.name}{labels}` | {metric.kind.value} | {metric.help} |"


def _bounds(bounds: tuple[float, ...]) -> str:
    return " ".join(f"{bound:.5f}".rstrip("0").rstrip(".") for bound in bounds)


if __name__ == "__main__":
    sys.stdout.write(reference())
