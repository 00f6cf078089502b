// The graph of dependencies: all of it while it is small, else the neighbourhood of one service.

import { get, pathOf, address } from "./api.js";
import { h, mark, s, say } from "./dom.js";
import { glyph, look } from "./phases.js";
import { layout } from "./layout.js";
import { store } from "./store.js";

const MOST = 120;
const WIDTH = 172;
const HEIGHT = 34;
const GAP_X = 72;
const GAP_Y = 16;
const PAD = 12;
const LETTERS = 17;
const SMALLEST = 0.72;

const WORDS = {
  requires: "needs it", wants: "would like it", after: "starts after it", part_of: "is part of it",
};

/** A drawn graph that stays true: phases and met edges follow the services. */
export class Drawing {
  constructor() {
    this.element = h("div", { class: "graph", tabindex: 0, role: "group", "aria-label": "Dependencies" });
    this.boxes = new Map();
  }

  show(edges, centre = null) {
    const names = [...new Set(edges.flatMap((edge) => [edge.from, edge.to]).concat(centre ?? []))];
    const { nodes, lines, columns, rows } = layout(names, edges);
    const place = ({ x, y }) => [PAD + x * (WIDTH + GAP_X), PAD + y * (HEIGHT + GAP_Y)];
    const width = 2 * PAD + columns * WIDTH + (columns - 1) * GAP_X;
    const height = 2 * PAD + rows * (HEIGHT + GAP_Y) - GAP_Y;
    this.boxes.clear();
    const drawn = lines.map(({ edge, points }) => s("path", { d: curve(points.map(place)),
      class: `edge e-${edge.kind}${edge.met ? "" : " unmet"}`, "marker-end": `url(#${edge.met ? "tip" : "tip-unmet"})` },
      s("title", {}, `${edge.from} ${WORDS[edge.kind] ?? edge.kind}: ${edge.to} (${edge.condition}${edge.met ? "" : ", not met"})`)));
    const boxes = [...nodes].map(([name, at]) => this.#box(name, place(at), name === centre));
    const drawing = s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img",
      "aria-label": `${names.length} services and what they depend on` },
      s("defs", {}, tip("tip"), tip("tip-unmet")), drawn, boxes);
    drawing.style.minWidth = `${Math.min(width, Math.max(SMALLEST * width, 300))}px`;
    this.element.replaceChildren(drawing);
    this.refresh();
  }

  #box(name, [x, y], centre) {
    const text = name.length > LETTERS ? `${name.slice(0, LETTERS - 1)}…` : name;
    const mark_ = s("g", { transform: `translate(${x + 9} ${y + 9})` });
    const box = s("a", { href: address(`service/${encodeURIComponent(name)}`).pathname, class: centre ? "centre" : "" },
      s("title", {}, name), s("rect", { x, y, width: WIDTH, height: HEIGHT, rx: 8 }), mark_,
      s("text", { x: x + 33, y: y + 22 }, text));
    box.addEventListener("click", (event) => {
      if (event.metaKey || event.ctrlKey) return;
      event.preventDefault();
      this.go?.(`service/${encodeURIComponent(name)}`);
    });
    this.boxes.set(name, [box, mark_, null]);
    return box;
  }

  refresh() {
    for (const [name, entry] of this.boxes) {
      const one = store.services.get(name);
      const phase = one ? look(one) : "stopped";
      if (entry[2] === phase) continue;
      entry[2] = phase;
      entry[1].replaceChildren(glyph(phase, { width: 16, height: 16 }));
      mark(entry[0], "data-phase", phase);
      say(entry[0].firstChild, `${name}: ${phase}`);
    }
  }
}

const tip = (id) => s("marker", { id, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 10, markerHeight: 10, markerUnits: "userSpaceOnUse", orient: "auto", class: id },
  s("path", { d: "M0 0.6 7.4 4 0 7.4z" }));

/** Bend from the right side of each box to the left side of the next. */
function curve(points) {
  let d = "";
  points.forEach(([x, y], i) => {
    const last = i === points.length - 1;
    const middle = y + HEIGHT / 2;
    if (i === 0) {
      d += `M${x + WIDTH} ${middle}`;
      return;
    }
    const [px, py] = points[i - 1];
    const from = px + WIDTH;
    const bend = (x - from) / 2;
    d += `C${from + bend} ${py + HEIGHT / 2} ${x - bend} ${middle} ${last ? x - 2 : x} ${middle}`;
    if (!last) d += `L${x + WIDTH} ${middle}`;
  });
  return d;
}

export const legend = () => h("ul", { class: "legend" },
  h("li", {}, line("requires"), "requires"), h("li", {}, line("wants"), "wants"),
  h("li", {}, line("after"), "after"), h("li", {}, line("requires unmet"), "not met"));

const line = (kind) => s("svg", { viewBox: "0 0 28 8", width: 28, height: 8, "aria-hidden": "true" },
  s("path", { d: "M0 4h28", class: `edge e-${kind}` }));

/** Return the edges around a service: what it needs and what needs it, at any depth up to `most`. */
export function around(edges, name, most = MOST) {
  const found = new Set();
  const seen = new Set([name]);
  for (const [near, far] of [["from", "to"], ["to", "from"]]) {
    const todo = [name];
    const here = new Set(todo);
    for (const at of todo) {
      for (const edge of edges) {
        if (edge[near] !== at) continue;
        const other = edge[far];
        if (!seen.has(other) && seen.size >= most) continue;
        found.add(edge);
        seen.add(other);
        if (!here.has(other)) {
          here.add(other);
          todo.push(other);
        }
      }
    }
  }
  return [...found];
}

export class GraphPage {
  title = "Graph";

  constructor({ go }) {
    this.drawing = new Drawing();
    this.drawing.go = go;
    this.about = h("p", { class: "about" }, "Reading the dependencies…");
    this.list = h("datalist", { id: "names" });
    this.input = h("input", { type: "search", list: "names", placeholder: "Show only what is around…", "aria-label": "Show the neighbourhood of a service",
      autocomplete: "off", spellcheck: "false", onchange: () => this.#draw() });
    this.element = h("div", { class: "page" }, h("h1", {}, "Dependencies"), this.about,
      h("div", { class: "toolbar" }, h("label", { class: "search" }, this.input, this.list), legend()), this.drawing.element);
  }

  enter(signal) {
    this.signal = signal;
    store.on("services", () => this.#changed(), signal);
    this.#read();
  }

  key(event) {
    if (event.key !== "/") return false;
    this.input.focus();
    return true;
  }

  /** Follow the phases at once; ask which edges are met when things have calmed down. */
  #changed() {
    this.drawing.refresh();
    clearTimeout(this.later);
    this.later = setTimeout(() => !this.signal.aborted && this.#read(), 1500);
  }

  async #read() {
    try {
      this.edges = (await get("v1/deps", {}, this.signal)).edges;
    } catch (error) {
      if (!this.signal.aborted) say(this.about, `The dependencies cannot be read: ${error.message}`);
      return;
    }
    const key = JSON.stringify(this.edges);
    if (key === this.key_) return;
    this.key_ = key;
    this.#draw();
  }

  #draw() {
    if (!this.edges) return;
    const names = new Set(this.edges.flatMap((edge) => [edge.from, edge.to]));
    this.list.replaceChildren(...[...names].slice(0, 2000).map((name) => h("option", { value: name })));
    const name = this.input.value.trim();
    const alone = store.services.size - names.size;
    const small = names.size <= MOST;
    if (name && names.has(name)) {
      this.drawing.show(around(this.edges, name), name);
      say(this.about, `What ${name} needs stands to the left, what needs it to the right.`);
    } else if (!names.size) {
      this.drawing.element.replaceChildren();
      say(this.about, "No service depends on another.");
    } else if (small) {
      this.drawing.show(this.edges);
      say(this.about, `${names.size} services; what is needed stands to the left.`
        + (alone > 0 ? ` ${alone.toLocaleString("en-US")} more depend on nothing and nothing on them.` : ""));
    } else {
      this.drawing.element.replaceChildren();
      say(this.about, `${names.size.toLocaleString("en-US")} services depend on each other: too many to be seen at once. Name one to see what is around it.`);
    }
  }
}

/** Ask for what is around a service. */
export async function neighbourhood(name, signal) {
  const [down, up] = await Promise.all([
    get(pathOf(name, "/deps"), {}, signal), get(pathOf(name, "/deps"), { reverse: 1 }, signal),
  ]);
  const all = new Map([...down.edges, ...up.edges].map((edge) => [`${edge.from} ${edge.to} ${edge.kind}`, edge]));
  return around([...all.values()], name, 40);
}
