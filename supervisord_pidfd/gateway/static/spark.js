// Small charts of what a service used, drawn from what this tab has seen.

import { h, mark, s, say } from "./dom.js";
import { age, bytes, percent } from "./format.js";

/** Draw a line over the last `span` seconds; gaps stay gaps. */
function paths(points, pick, span, width, height, top) {
  const end = points.at(-1)?.ts ?? 0;
  let line = "";
  let area = "";
  let run = [];
  const close = () => {
    if (run.length > 1) {
      line += `M${run.map(([x, y]) => `${x} ${y}`).join("L")}`;
      area += `M${run[0][0]} ${height}L${run.map(([x, y]) => `${x} ${y}`).join("L")}L${run.at(-1)[0]} ${height}Z`;
    }
    run = [];
  };
  for (const point of points) {
    const value = pick(point);
    if (value === null || value === undefined) {
      close();
      continue;
    }
    const x = width - ((end - point.ts) / span) * width;
    if (x < 0) continue;
    const y = height - 1 - (Math.min(value, top) / top) * (height - 2);
    run.push([x.toFixed(1), y.toFixed(1)]);
  }
  close();
  return [line, area];
}

/** Return how many seconds to draw: what there is, but at least 20. */
const spanOf = (points, most) => Math.min(most, Math.max(20, points.length ? points.at(-1).ts - points[0].ts : 0));

const KINDS = {
  cpu: { pick: (point) => point.cpu, least: 0.05, write: percent, title: "CPU" },
  rss: { pick: (point) => point.rss, least: 4e6, write: bytes, title: "Memory" },
};

/** A sparkline with its latest value beside it. */
export class Spark {
  constructor(kind, { width = 72, height = 20, span = 120 } = {}) {
    Object.assign(this, KINDS[kind], { width, height, span });
    this.area = s("path", { class: "area" });
    this.line = s("path", { class: "line" });
    this.value = h("span", { class: "num" }, "–");
    this.element = h("span", { class: `spark ${kind}` },
      s("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" },
        this.area, this.line), this.value);
  }

  show(points, alive = true) {
    const top = points.reduce((most, point) => Math.max(most, this.pick(point) ?? 0), this.least) * 1.08;
    const [line, area] = alive ? paths(points, this.pick, spanOf(points, this.span), this.width, this.height, top) : ["", ""];
    mark(this.line, "d", line);
    mark(this.area, "d", area);
    say(this.value, alive ? this.write(this.pick(points.at(-1) ?? {})) : "–");
  }
}

/** A larger chart with its scale. */
export class Chart {
  constructor(kind) {
    this.spark = new Spark(kind, { width: 600, height: 120, span: 300 });
    this.top = h("span", { class: "most num" });
    this.now = h("strong", { class: "num" });
    this.element = h("figure", { class: "chart" },
      h("figcaption", {}, h("span", {}, this.spark.title), this.top, this.now),
      h("div", { class: "plot" }, this.spark.element));
  }

  show(points, alive) {
    this.spark.show(points, alive);
    const most = points.reduce((most, point) => Math.max(most, this.spark.pick(point) ?? 0), 0);
    say(this.top, most && alive ? `most ${this.spark.write(most)} in ${age(spanOf(points, 300))}` : "");
    say(this.now, alive ? this.spark.write(this.spark.pick(points.at(-1) ?? {})) : "–");
  }
}
