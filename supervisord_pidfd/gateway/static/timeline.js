// Starts and exits of all services, one line each.

import { address } from "./api.js";
import { button, h, mark, say } from "./dom.js";
import { clock, count, length } from "./format.js";
import { glyph, look } from "./phases.js";
import { bars, mood, scale } from "./runs.js";
import { store } from "./store.js";

const SPANS = [["5m", 300], ["15m", 900], ["1h", 3600], ["6h", 21600], ["1d", 86400]];
const MOST = 80;
const kept = { span: null, restless: false };

/** Gather the runs of each service within the last `span` seconds. */
export function gather(events, services, from, now) {
  const found = new Map();
  const of = (name) => found.get(name) ?? found.set(name, { runs: [], bad: 0, last: 0 }).get(name);
  for (const event of events) {
    if (event.event !== "service.exited" || event.at < from) continue;
    const cause = event.cause;
    const one = of(event.service);
    const how = event.signal ? `signal ${event.signal}` : event.exit_code !== null ? `code ${event.exit_code}` : "status unknown";
    one.runs.push({ from: event.at - event.lasted_s * 1000, to: event.at, cause,
      text: `${event.service}, run ${event.run}: ${length(event.lasted_s)}, ended ${clock(event.at)} with ${how} (${cause})` });
    one.bad += mood(cause) === "bad";
    one.last = event.at;
  }
  for (const service of services) {
    if (!service.started_at) continue;
    const started = Date.parse(service.started_at);
    const one = of(service.name);
    one.runs.push({ from: started, to: now, cause: null, text: `${service.name}: running since ${clock(started)}` });
    if (started > from) one.last = Math.max(one.last, started);
  }
  return found;
}

export class TimelinePage {
  title = "Timeline";

  constructor() {
    this.about = h("p", { class: "about" });
    this.rows = h("div", { class: "lanes" });
    this.spans = h("div", { class: "segments", role: "group", "aria-label": "Span" }, SPANS.map(([text, span]) =>
      button(text, () => { kept.span = span; this.#draw(); }, { "data-span": span })));
    this.restless = button("Only what moved", () => { kept.restless = !kept.restless; this.#draw(); }, { class: "plain toggle" });
    this.element = h("div", { class: "page" }, h("h1", {}, "Starts and exits"), this.about,
      h("div", { class: "toolbar" }, this.spans, this.restless,
        h("ul", { class: "legend" }, h("li", {}, h("i", { class: "m-live" }), "running"), h("li", {}, h("i", { class: "m-calm" }), "ended as asked"),
          h("li", {}, h("i", { class: "m-bad" }), "failed"))), this.rows);
  }

  enter(signal) {
    store.on("services", () => this.#soon(), signal);
    store.on("events", () => this.#soon(), signal);
    const tick = setInterval(() => this.#draw(), 1000);
    signal.addEventListener("abort", () => clearInterval(tick));
    this.#draw();
  }

  #soon() {
    this.late ??= setTimeout(() => { this.late = undefined; this.#draw(); }, 200);
  }

  /** Show no time from before the supervisor was there. */
  #fitting(now) {
    const up = store.supervisor ? (now - Date.parse(store.supervisor.started_at)) / 1000 : Infinity;
    return Math.min(900, SPANS.find(([, span]) => span >= up)?.[1] ?? 900);
  }

  #draw() {
    const now = Date.now() - store.skew * 1000;
    const span = kept.span ?? this.#fitting(now);
    const from = now - span * 1000;
    for (const one of this.spans.children) mark(one, "aria-pressed", Number(one.dataset.span) === span ? "true" : "false");
    mark(this.restless, "aria-pressed", kept.restless ? "true" : "false");
    const found = [...gather(store.events, store.services.values(), from, now)].filter(([, one]) => !kept.restless || one.last > from);
    found.sort(([a, one], [b, other]) => other.bad - one.bad || other.last - one.last || (a < b ? -1 : 1));
    const bad = found.reduce((sum, [, one]) => sum + one.bad, 0);
    say(this.about, `${count(found.length, "service")}, ${count(bad, "failure")} in the last ${length(span)}`
      + (found.length > MOST ? `; the ${MOST} most restless are shown.` : "."));
    const lanes = found.slice(0, MOST).map(([name, one]) => h("a", { class: "lane", href: address(`service/${encodeURIComponent(name)}`).pathname },
      h("span", { class: "who" }, glyph(store.services.has(name) ? look(store.services.get(name)) : "stopped"), h("span", {}, name),
        one.bad > 0 && h("b", { class: "num" }, String(one.bad))), bars(one.runs, from, now)));
    this.rows.replaceChildren(h("div", { class: "lane ruler" }, h("span", { class: "who" }), scale(from, now)), ...lanes);
  }
}
