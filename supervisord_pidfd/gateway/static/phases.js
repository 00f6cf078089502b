// The eight phases: each a shape, a word and a colour, so that no one needs to see all three.

import { h, s } from "./dom.js";

/** Phases in the order in which they deserve a look. */
export const PHASES = [
  "failed", "backoff", "stopping", "waiting", "starting", "running", "exited", "stopped",
];

export const RANK = Object.fromEntries(PHASES.map((phase, rank) => [phase, rank]));

const line = { fill: "none", stroke: "currentColor", "stroke-width": 1.8, "stroke-linecap": "round",
  "stroke-linejoin": "round" };

const SHAPES = {
  running: () => [s("circle", { cx: 8, cy: 8, r: 5.2, fill: "currentColor" })],
  unhealthy: () => [s("circle", { cx: 8, cy: 8, r: 5.6, fill: "currentColor" }), s("path", { d: "M8 5v3.3M8 10.9v.1", class: "cut" })],
  starting: () => [s("circle", { cx: 8, cy: 8, r: 4.9, ...line }),
    s("path", { d: "M8 3.1a4.9 4.9 0 0 0 0 9.8z", fill: "currentColor" })],
  waiting: () => [s("circle", { cx: 8, cy: 8, r: 4.9, ...line, "stroke-dasharray": "0.2 3.65" })],
  stopping: () => [s("path", { d: "M2.8 4.6h10.4L8 12.6z", fill: "currentColor" })],
  stopped: () => [s("rect", { x: 3.6, y: 3.6, width: 8.8, height: 8.8, rx: 1.6, ...line })],
  backoff: () => [s("path", { d: "M12.9 8.4A5 5 0 1 1 11.3 4.5", ...line }),
    s("path", { d: "M12.4 1.9v3.3H9.1", ...line })],
  exited: () => [s("path", { d: "M3 8.6l3.3 3.3L13 4.8", ...line, "stroke-width": 2.1 })],
  failed: () => [s("path", { d: "M8 1.2 14.8 8 8 14.8 1.2 8z", fill: "currentColor" }),
    s("path", { d: "M5.9 5.9l4.2 4.2m0-4.2-4.2 4.2", class: "cut" })],
};

/** Draw the shape of a phase. */
export const glyph = (phase, attributes = {}) =>
  s("svg", { viewBox: "0 0 16 16", "aria-hidden": "true", ...attributes,
    class: `glyph p-${phase} ${attributes.class ?? ""}` }, SHAPES[phase]?.() ?? []);

/** Draw a phase: shape and word. */
export const phaseOf = (phase, shape = phase) =>
  h("span", { class: `phase p-${shape}` }, glyph(shape), h("span", { class: "word" }, phase));

/** Return what a service looks like: its phase, or `unhealthy` beside the eight. */
export const look = (one) => (one.phase === "running" && one.health === "unhealthy" ? "unhealthy" : one.phase);

/** Tell whether a service should be looked at. */
export const troubled = (one) =>
  one.phase === "failed" || one.phase === "backoff" || one.health === "unhealthy"
  || (one.phase === "waiting" && one.wanted === "up");

/** Say what is remarkable beside the phase. */
export function remark(one) {
  if (one.health === "unhealthy") return "unhealthy";
  if (one.frozen) return "frozen";
  if (one.phase === "running" && !one.ready) return "not ready";
  if (one.pending) return "restart pending";
  return "";
}
