// Starts and exits drawn on a line of time.

import { h, s } from "./dom.js";
import { clock, length, when } from "./format.js";

const ASKED = new Set(["success", "operator", "config", "dependency"]);

/** Tell how an end is to be seen: as asked, or as a failure. */
export const mood = (cause) => (cause === undefined || cause === null ? "live" : ASKED.has(cause) ? "calm" : "bad");

const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800, 2592000];

/** Return the moments of a scale: at most `most` round ones from `from` to `to` (ms). */
export function ticks(from, to, most = 6) {
  const step = (STEPS.find((one) => (to - from) / 1000 / one <= most) ?? STEPS.at(-1)) * 1000;
  const zone = new Date(to).getTimezoneOffset() * 60000;
  const found = [];
  for (let at = Math.ceil((from - zone) / step) * step + zone; at <= to; at += step) found.push(at);
  return found;
}

/** Write a moment of a scale as short as its span allows. */
export function tick(at, span) {
  if (span < 600e3) return clock(at);
  const one = new Date(at);
  const time = clock(at).slice(0, 5);
  return span < 86400e3 ? time : `${one.getMonth() + 1}/${one.getDate()} ${time}`;
}

/** Draw bars; each {from, to, cause, text} in ms, from `from` to `to`. */
export function bars(runs, from, to) {
  const span = Math.max(1, to - from);
  const at = (moment) => ((Math.min(Math.max(moment, from), to) - from) / span) * 1000;
  return s("svg", { class: "bars", viewBox: "0 0 1000 20", preserveAspectRatio: "none", "aria-hidden": "true" },
    runs.map((run) => {
      const x = at(run.from);
      const width = Math.max(1.5, at(run.to) - x);
      return s("g", { class: `run m-${mood(run.cause)}` }, s("title", {}, run.text),
        s("rect", { x, y: 4, width, height: 12, rx: 1.5, class: "body" }),
        run.cause && s("rect", { x: Math.max(x, at(run.to) - 2.5), y: 2, width: 2.5, height: 16, class: "end" }));
    }));
}

/** Draw a scale of time; what would hang over its ends is left out. */
export const scale = (from, to) => h("div", { class: "scale", "aria-hidden": "true" }, ticks(from, to, innerWidth < 720 ? 3 : 6).map((at) => {
  const share = (at - from) / (to - from);
  if (share < 0.03 || share > 0.97) return null;
  const one = h("span", {}, tick(at, to - from));
  one.style.left = `${share * 100}%`;
  return one;
}));

/** Draw the last runs of one service. */
export function strip(runs) {
  const now = Date.now();
  const drawn = runs.filter((run) => run.started_at).map((run) => {
    const from = Date.parse(run.started_at);
    const to = run.ended_at ? Date.parse(run.ended_at) : now;
    return { from, to, cause: run.exit?.cause ?? (run.ended_at ? "unknown" : null),
      text: `run ${run.run}: ${when(run.started_at)}, ${length((to - from) / 1000)}${run.exit ? `, ${run.exit.text}` : ", running"}` };
  });
  if (!drawn.length) return h("p", { class: "empty" }, "It has not run yet.");
  const first = Math.min(...drawn.map((run) => run.from));
  const from = first - Math.max(1000, (now - first) * 0.02);
  return h("div", { class: "strip" }, bars(drawn, from, now), scale(from, now));
}
