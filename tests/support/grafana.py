"""Write the dashboard for Grafana: `python -m tests.support.grafana`.

The output is `deploy/grafana/supervisord.json`.

A panel is one line here and forty there. `ROWS` is the whole dashboard; a test asks a real
Prometheus every query of it.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

DAEMON = 'job=~"$job", instance=~"$instance"'
SERVICE = f'{DAEMON}, group=~"$group", service=~"$service"'
RATE = "[$__rate_interval]"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
GREEN, YELLOW, RED, GREY, BLUE = "green", "orange", "red", "text", "blue"


class Query(NamedTuple):
    """Hold a query; `$D` and `$S` stand for the selectors of daemons and of services."""

    expr: str
    legend: str = ""


class Panel(NamedTuple):
    """Hold one panel. `states` maps values to a word and a colour; `bad` is where red begins."""

    title: str
    kind: str
    queries: tuple[Query, ...]
    unit: str = "short"
    width: int = 12
    height: int = 8
    text: str = ""
    states: dict[int, tuple[str, str]] | None = None
    bad: float | None = None
    stacked: bool = False


def graph(title: str, expr: str, legend: str, unit: str = "short", **more: Any) -> Panel:
    return Panel(title, "timeseries", (Query(expr, legend),), unit, **more)


def stat(title: str, expr: str, **more: Any) -> Panel:
    return Panel(title, "stat", (Query(expr),), width=4, height=4, **more)


def quantiles(title: str, metric: str, text: str = "") -> Panel:
    rates = f"sum by (instance, le) (rate({metric}_bucket{{$D}}{RATE}))"
    queries = tuple(
        Query(
            f"histogram_quantile({share}, {rates})", f"{{{{instance}}}} p{share[2:].ljust(2, '0')}"
        )
        for share in ("0.5", "0.99")
    )
    return Panel(title, "timeseries", queries, "s", width=8, text=text)


YES_NO = {0: ("no", RED), 1: ("yes", GREEN)}
LIFE = {0: ("down", GREY), 1: ("done", BLUE), 2: ("not ready", YELLOW), 3: ("ready", GREEN)}

ROWS: dict[str, tuple[Panel, ...]] = {
    "Now": (
        stat("Supervisors answer", "min(supervisord_up{$D})", states=YES_NO),
        stat("Services wanted up", "sum(supervisord_service_wanted_up{$S})"),
        stat(
            "Wanted up, not ready",
            "count(supervisord_service_wanted_up{$S} == 1 and supervisord_service_ready{$S} == 0)"
            " or vector(0)",
            bad=1,
        ),
        stat("Failed", 'sum(supervisord_services{$D, phase="failed"})', bad=1),
        stat("Unhealthy", "count(supervisord_service_healthy{$S} == 0) or vector(0)", bad=1),
        stat(
            "Last apply succeeded",
            "min(supervisord_config_last_reload_successful{$D})",
            states=YES_NO,
        ),
    ),
    "Services": (
        graph(
            "Services by phase",
            "sum by (phase) (supervisord_services{$D})",
            "{{phase}}",
            stacked=True,
        ),
        Panel(
            "Wanted up and not ready",
            "table",
            (
                Query(
                    "supervisord_service_wanted_up{$S} == 1 and supervisord_service_ready{$S} == 0"
                ),
            ),
            text="`pidfdctl explain NAME` says why, and what to do.",
        ),
        Panel(
            "Life of each service",
            "state-timeline",
            (
                Query(
                    "2 * supervisord_service_up{$S} + supervisord_service_ready{$S}", "{{service}}"
                ),
            ),
            width=24,
            states=LIFE,
        ),
    ),
    "Restarts and ends": (
        graph(
            "Restarts, by service",
            f"sum by (service) (increase(supervisord_service_restarts_total{{$S}}{RATE})) > 0",
            "{{service}}",
            stacked=True,
        ),
        graph(
            "Ends, by cause",
            f"sum by (cause) (increase(supervisord_service_exits_total{{$S}}{RATE}))",
            "{{cause}}",
            stacked=True,
        ),
        graph(
            "Most restarts in 15 minutes",
            "topk(10, sum without (cause)"
            " (service_cause:supervisord_service_restarts:increase15m{$S})) > 0",
            "{{service}}",
            text="From the shipped recording rules, which also count the first of each cause.",
        ),
        Panel(
            "Start limits reached, stops that took SIGKILL",
            "timeseries",
            (
                Query(
                    "sum by (service) (increase(supervisord_service_start_limit_hits_total{$S}"
                    f"{RATE})) > 0",
                    "{{service}} limit",
                ),
                Query(
                    "sum by (service) (increase(supervisord_service_kill_escalations_total{$S}"
                    f"{RATE})) > 0",
                    "{{service}} SIGKILL",
                ),
            ),
        ),
    ),
    "Resources": (
        graph(
            "CPU",
            f"sum by (service) (rate(supervisord_service_cpu_seconds_total{{$S}}{RATE}))",
            "{{service}}",
            "percentunit",
        ),
        graph("Memory", "supervisord_service_memory_rss_bytes{$S}", "{{service}}", "bytes"),
        graph("Open descriptors", "supervisord_service_open_fds{$S}", "{{service}}", width=8),
        graph("Threads", "supervisord_service_threads{$S}", "{{service}}", width=8),
        graph(
            "Most memory of a run",
            "supervisord_service_memory_peak_bytes{$S}",
            "{{service}}",
            "bytes",
            width=8,
        ),
    ),
    "Checks and logs": (
        Panel(
            "Checks",
            "state-timeline",
            (Query("supervisord_check_up{$S}", "{{service}} {{check}}"),),
            states={0: ("fails", RED), 1: ("passes", GREEN)},
        ),
        graph(
            "Duration of checks",
            "supervisord_check_last_duration_seconds{$S}",
            "{{service}} {{check}}",
            "s",
        ),
        graph(
            "Checks that do not succeed",
            "sum by (service, check, result)"
            f' (rate(supervisord_check_runs_total{{$S, result!="success"}}{RATE}))',
            "{{service}} {{check}} {{result}}",
            "ops",
            width=6,
        ),
        graph(
            "Output",
            f"sum by (service) (rate(supervisord_service_log_bytes_total{{$S}}{RATE}))",
            "{{service}}",
            "Bps",
            width=6,
        ),
        graph(
            "Lines dropped",
            "sum by (service, reason)"
            f" (rate(supervisord_service_log_dropped_lines_total{{$S}}{RATE})) > 0",
            "{{service}} {{reason}}",
            "ops",
            width=6,
        ),
        graph(
            "Time for which output was held back",
            "sum by (service)"
            f" (rate(supervisord_service_log_blocked_seconds_total{{$S}}{RATE})) > 0",
            "{{service}}",
            "percentunit",
            width=6,
        ),
    ),
    "The supervisor": (
        quantiles("Lag of the loop", "supervisord_loop_lag_seconds"),
        quantiles("Handling of an exit", "supervisord_exit_handling_seconds"),
        quantiles(
            "Detection of an exit",
            "supervisord_exit_detection_seconds",
            "Needs `metrics.canary`.",
        ),
        quantiles("Creation of a process", "supervisord_spawn_duration_seconds"),
        quantiles("From spawn to ready", "supervisord_start_duration_seconds"),
        quantiles("From stop request to nothing left", "supervisord_stop_duration_seconds"),
        Panel(
            "CPU of the core",
            "timeseries",
            (
                Query(f"rate(process_cpu_seconds_total{{$D}}{RATE})", "{{instance}} CPU"),
                Query(
                    f"rate(supervisord_loop_busy_seconds_total{{$D}}{RATE})", "{{instance}} busy"
                ),
            ),
            "percentunit",
            width=8,
        ),
        Panel(
            "Memory of the supervisor",
            "timeseries",
            (
                Query("process_resident_memory_bytes{$D}", "{{instance}} core"),
                Query("supervisord_internal_memory_rss_bytes{$D}", "{{instance}} {{name}}"),
            ),
            "bytes",
            width=8,
        ),
        graph(
            "Descriptors of the core",
            "process_open_fds{$D} / process_max_fds{$D}",
            "{{instance}}",
            "percentunit",
            width=8,
        ),
        graph(
            "Processes that could not be created",
            f"sum by (stage, error) (increase(supervisord_spawn_errors_total{{$D}}{RATE}))",
            "{{stage}} {{error}}",
            width=8,
        ),
        Panel(
            "Requests",
            "timeseries",
            (
                Query(
                    "sum by (method, result)"
                    f" (rate(supervisord_control_requests_total{{$D}}{RATE}))",
                    "{{method}} {{result}}",
                ),
                Query(
                    f"sum by (handler, code) (rate(supervisord_http_requests_total{{$D}}{RATE}))",
                    "{{handler}} {{code}}",
                ),
            ),
            "ops",
            width=8,
        ),
        Panel(
            "What should not happen",
            "timeseries",
            (
                Query(
                    f"increase(supervisord_internal_restarts_total{{$D}}{RATE})",
                    "{{instance}} restart of {{name}}",
                ),
                Query(
                    f"increase(supervisord_callback_errors_total{{$D}}{RATE})",
                    "{{instance}} internal error",
                ),
                Query("supervisord_sigchld_children{$D}", "{{instance}} children without pidfd"),
            ),
            width=8,
        ),
        Panel(
            "Versions",
            "table",
            (Query("supervisord_build_info{$D}"), Query("supervisord_reaper_info{$D}")),
            width=24,
            height=5,
        ),
    ),
}


def queries() -> Iterator[str]:
    """Give every query, with the selectors filled in."""
    for panels in ROWS.values():
        for panel in panels:
            for query in panel.queries:
                yield filled(query.expr)


def filled(expr: str) -> str:
    """Put the selectors of a query in."""
    return expr.replace("$D", DAEMON).replace("$S", SERVICE)


# -- Grafana's words ------------------------------------------------------------------------------


def _targets(panel: Panel) -> list[dict[str, Any]]:
    now = panel.kind in {"stat", "table"}
    return [
        {
            "refId": chr(ord("A") + number),
            "datasource": DATASOURCE,
            "expr": filled(query.expr),
            "legendFormat": query.legend,
            "instant": now,
            "range": not now,
            "format": "table" if panel.kind == "table" else "time_series",
        }
        for number, query in enumerate(panel.queries)
    ]


def _defaults(panel: Panel) -> dict[str, Any]:
    found: dict[str, Any] = {"unit": panel.unit, "min": 0}
    steps: list[dict[str, Any]] = [{"color": GREEN, "value": None}]
    if panel.bad is not None:
        steps.append({"color": RED, "value": panel.bad})
    elif panel.kind == "stat" and panel.states is None:
        steps = [{"color": BLUE, "value": None}]
    found["thresholds"] = {"mode": "absolute", "steps": steps}
    if panel.states is not None:
        options = {
            str(value): {"text": word, "color": colour, "index": value}
            for value, (word, colour) in panel.states.items()
        }
        found["mappings"] = [{"type": "value", "options": options}]
    if panel.kind == "timeseries":
        found["custom"] = {
            "fillOpacity": 40 if panel.stacked else 8,
            "lineWidth": 1,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        }
    if panel.kind == "state-timeline":
        found["custom"] = {"fillOpacity": 80, "lineWidth": 0}
    return found


_OPTIONS: dict[str, dict[str, Any]] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "colorMode": "value",
        "graphMode": "none",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    },
    "state-timeline": {
        "mergeValues": True,
        "rowHeight": 0.9,
        "showValue": "never",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
    },
    "table": {"showHeader": True, "cellHeight": "sm"},
}

_HIDDEN = {"Time": True, "Value": True, "Value #A": True, "Value #B": True, "__name__": True}


def _panel(number: int, panel: Panel, x: int, y: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "datasource": DATASOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height},
        "targets": _targets(panel),
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _OPTIONS[panel.kind],
    }
    if panel.text:
        found["description"] = panel.text
    if panel.kind == "table":
        found["transformations"] = [
            {"id": "merge", "options": {}},
            {"id": "organize", "options": {"excludeByName": _HIDDEN}},
        ]
    return found


def _variable(name: str, query: str, label: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def dashboard() -> dict[str, Any]:
    """Make the dashboard as Grafana reads it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS.items():
        place = {"x": 0, "y": y, "w": 24, "h": 1}
        panels.append(
            {"id": len(panels) + 1, "type": "row", "title": title, "gridPos": place, "panels": []}
        )
        y += 1
        x = height = 0
        for panel in row:
            if x + panel.width > 24:
                x, y, height = 0, y + height, 0
            panels.append(_panel(len(panels) + 1, panel, x, y))
            x, height = x + panel.width, max(height, panel.height)
        y += height
    source = {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
        "hide": 0,
    }
    return {
        "uid": "supervisord-pidfd",
        "title": "supervisord-pidfd",
        "description": "Services and their supervisor; see docs/monitoring.md.",
        "tags": ["supervisord-pidfd"],
        "schemaVersion": 38,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "",
        "templating": {
            "list": [
                source,
                _variable("job", "label_values(supervisord_up, job)", "Job"),
                _variable(
                    "instance", 'label_values(supervisord_up{job=~"$job"}, instance)', "Daemon"
                ),
                _variable(
                    "group", f"label_values(supervisord_service_up{{{DAEMON}}}, group)", "Group"
                ),
                _variable(
                    "service",
                    f'label_values(supervisord_service_up{{{DAEMON}, group=~"$group"}}, service)',
                    "Service",
                ),
            ]
        },
        "annotations": {"list": []},
        "links": [],
        "panels": panels,
    }


def text() -> str:
    """Return the file."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
