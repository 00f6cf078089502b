// The first page: is all well, what needs a look, and every service in one table.
//
// Only the rows in view exist. They are filled again at most once a frame, and each cell is touched
// only if what it shows has changed, so that ten thousand services cost what forty do.

import { ROOT, address } from "./api.js";
import { button, h, mark, s, say } from "./dom.js";
import { age, count, detail, since, when } from "./format.js";
import { PHASES, RANK, glyph, look, phaseOf, remark, troubled } from "./phases.js";
import { Spark } from "./spark.js";
import { store } from "./store.js";

const MARGIN = 12;
const MANY = 1000;
const MANY_EVERY_MS = 250;
const LOOKS = 6;

// What is sorted is sorted by name already, and sorting keeps that order among equals: so a change
// of ten thousand records never compares a name.
const COLUMNS = [
  ["name", "Service", null],
  ["phase", "State", (a, b) => RANK[a.phase] - RANK[b.phase] || a.ready - b.ready],
  ["uptime", "Uptime", (a, b) => order(a.started_at ?? "9", b.started_at ?? "9")],
  ["restarts", "Restarts", (a, b) => b.restarts - a.restarts],
  ["cpu", "CPU", (a, b) => (store.latest(b.name)?.cpu ?? -1) - (store.latest(a.name)?.cpu ?? -1)],
  ["rss", "Memory", (a, b) => (store.latest(b.name)?.rss ?? -1) - (store.latest(a.name)?.rss ?? -1)],
  ["detail", "Detail", undefined],
];

const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
const collator = new Intl.Collator("en", { numeric: true });
const compare = collator.compare;

/** What the page was like when it was left. */
const kept = { filter: "", phases: new Set(), sort: "name", down: false, chosen: null };

function matcher(text, phases) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean).map((word) => {
    const not = word.startsWith("-") && word.length > 1;
    const rest = not ? word.slice(1) : word;
    if (rest.startsWith("@")) return [not, (one) => one.group.toLowerCase().startsWith(rest.slice(1))];
    return [not, (one) => one.name.toLowerCase().includes(rest) || one.phase === rest
      || one.health === rest || (one.detail ?? "").toLowerCase().includes(rest)];
  });
  return (one) => (!phases.size || phases.has(one.phase))
    && words.every(([not, holds]) => holds(one) !== not);
}

class Row {
  constructor() {
    this.link = h("a", { href: "", tabindex: -1, class: "name" });
    this.group = h("span", { class: "group" });
    this.state = h("td", { class: "c-phase" });
    this.note = h("span", { class: "note" });
    this.uptime = h("td", { class: "c-uptime num" });
    this.restarts = h("td", { class: "c-restarts num" });
    this.cpu = new Spark("cpu");
    this.rss = new Spark("rss");
    this.detail = h("td", { class: "c-detail" });
    this.element = h("tr", {}, h("th", { scope: "row", class: "c-name" }, this.link, this.group),
      this.state, this.uptime, this.restarts, h("td", { class: "c-cpu" }, this.cpu.element),
      h("td", { class: "c-rss" }, this.rss.element), this.detail);
  }

  show(one, index, chosen) {
    if (this.name !== one.name) {
      this.name = one.name;
      say(this.link, one.name);
      this.link.href = `${ROOT.pathname}service/${encodeURIComponent(one.name)}`;
      this.element.dataset.name = one.name;
    }
    say(this.group, one.group && one.group !== one.name ? `@${one.group}` : "");
    const shape = look(one);
    if (this.shape !== shape) {
      this.shape = shape;
      this.state.replaceChildren(phaseOf(one.phase, shape), this.note);
    }
    say(this.note, remark(one));
    mark(this.element, "aria-rowindex", index + 2);
    mark(this.element, "class", `p-${shape}${troubled(one) ? " troubled" : ""}${chosen ? " chosen" : ""}`);
    mark(this.element, "aria-selected", chosen ? "true" : null);
    say(this.uptime, one.started_at ? age(since(one.started_at, store.skew)) : "–");
    if (this.started !== one.started_at) {
      this.started = one.started_at;
      mark(this.uptime, "title", one.started_at ? `since ${when(one.started_at)}` : null);
    }
    say(this.restarts, one.restarts ? String(one.restarts.toLocaleString("en-US")) : "0");
    mark(this.restarts, "title", one.restarts_1h ? `${one.restarts_1h} in the last hour` : null);
    mark(this.restarts, "data-hot", one.restarts_1h ? "" : null);
    const points = store.history(one.name);
    this.cpu.show(points, Boolean(one.pid));
    this.rss.show(points, Boolean(one.pid));
    const text = detail(one, store.skew);
    say(this.detail, text);
    mark(this.detail, "title", text || null);
  }
}

/** The headline: one sentence that says how things are. */
class Headline {
  constructor(filter) {
    this.title = h("h1", {}, "Waiting for the supervisor…");
    this.about = h("p", { class: "about" });
    this.bar = s("svg", { class: "fleet", viewBox: "0 0 1000 8", preserveAspectRatio: "none", "aria-hidden": "true" });
    this.chips = h("div", { class: "chips", role: "group", "aria-label": "Show only these phases" });
    this.looks = h("ul", { class: "looks", "aria-label": "Services that need a look" });
    this.filter = filter;
    this.element = h("section", { class: "headline" }, this.title, this.about, this.bar, this.chips, this.looks);
  }

  show(all) {
    const counts = Object.fromEntries(PHASES.map((phase) => [phase, 0]));
    const bad = [];
    for (const one of all) {
      counts[one.phase]++;
      if (troubled(one)) bad.push(one);
    }
    say(this.title, sentence(all, bad, counts));
    this.#bar(all.length, counts);
    this.#chips(counts);
    this.#looks(bad.sort((a, b) => RANK[a.phase] - RANK[b.phase]));
  }

  /** Let the lengths in the texts go on. */
  tick() {
    this.#about();
    this.bad?.forEach((one, i) => say(this.lines[i], detail(one, store.skew)));
  }

  #about() {
    const it = store.supervisor;
    if (!it) return;
    const parts = [
      `up ${age(since(it.started_at, store.skew))}`,
      `${it.reaper === "pidfd" ? "pidfd" : "SIGCHLD"} reaper${it.reaper_reason ? ` (${it.reaper_reason})` : ""}`,
      `configuration ${it.config.generation}, applied ${when(it.config.applied_at)}`,
    ];
    if (it.phase === "stopping") parts.unshift("shutting down");
    say(this.about, parts.join(" · "));
    if (it.config.last_error) {
      this.about.append(h("a", { class: "error", href: address("config").pathname }, "last change was rejected"));
    }
  }

  #bar(total, counts) {
    const key = JSON.stringify(counts);
    if (key === this.counted) return;
    this.counted = key;
    const parts = [];
    let x = 0;
    for (const phase of [...PHASES].reverse()) {
      if (!counts[phase]) continue;
      const width = (counts[phase] / total) * 1000;
      parts.push(s("rect", { x, width: Math.max(0, width - 2), height: 8, class: `p-${phase}` }));
      x += width;
    }
    this.bar.replaceChildren(...parts);
  }

  #chips(counts) {
    const present = [...PHASES].reverse().filter((phase) => counts[phase] || kept.phases.has(phase));
    const key = present.join();
    if (this.present !== key) {
      this.present = key;
      this.numbers = {};
      this.chips.replaceChildren(...present.map((phase) => {
        this.numbers[phase] = h("b", { class: "num" });
        return h("button", { type: "button", class: `chip p-${phase}`, "data-phase": phase,
          onclick: () => this.filter(phase) }, glyph(phase), this.numbers[phase], phase);
      }));
    }
    for (const chip of this.chips.children) {
      say(this.numbers[chip.dataset.phase], counts[chip.dataset.phase].toLocaleString("en-US"));
      mark(chip, "aria-pressed", kept.phases.has(chip.dataset.phase) ? "true" : "false");
    }
  }

  #looks(bad) {
    const shown = bad.slice(0, LOOKS);
    const key = shown.map((one) => `${one.name} ${one.phase} ${one.health}`).join("|") + bad.length;
    if (this.key !== key) {
      this.key = key;
      this.lines = shown.map(() => h("span", { class: "why" }));
      this.looks.replaceChildren(...shown.map((one, i) => h("li", { class: `p-${look(one)}` },
        h("a", { href: address(`service/${encodeURIComponent(one.name)}`).pathname },
          glyph(look(one)), h("b", {}, one.name), h("span", { class: "word" }, remark(one) || one.phase), this.lines[i]))));
      if (bad.length > LOOKS) {
        this.looks.append(h("li", { class: "more" }, button(`and ${(bad.length - LOOKS).toLocaleString("en-US")} more`,
          () => this.filter("failed", "backoff"), { class: "plain" })));
      }
    }
    this.bad = shown;
    shown.forEach((one, i) => say(this.lines[i], detail(one, store.skew)));
  }
}

function sentence(all, bad, counts) {
  if (!store.synced && !all.length) return "Waiting for the supervisor…";
  if (!all.length) return "No services are configured";
  if (bad.length === 1) return `${bad[0].name} needs a look`;
  if (bad.length) return `${bad.length.toLocaleString("en-US")} of ${count(all.length, "service")} need a look`;
  const moving = counts.starting + counts.stopping;
  if (moving) return `${count(moving, "service")} ${moving === 1 ? "is" : "are"} on the way`;
  return all.length === 1 ? `${all[0].name} is well` : `All ${count(all.length, "service")} are well`;
}

export class ServicesPage {
  title = "Services";

  constructor({ go }) {
    this.go = go;
    this.rows = [];
    this.view = [];
    this.dirty = true;
    this.built = 0;
    this.headline = new Headline((...phases) => this.#toggle(phases));
    this.input = h("input", { type: "search", id: "filter", placeholder: "Filter by name, @group, phase or detail",
      "aria-label": "Filter services", autocomplete: "off", spellcheck: "false", "aria-keyshortcuts": "/",
      oninput: () => { kept.filter = this.input.value; this.#rearrange(); } });
    this.input.value = kept.filter;
    this.shown = h("span", { class: "shown", role: "status" });
    this.heads = COLUMNS.map(([id, text, order]) => h("th", { scope: "col", class: `c-${id}` },
      order !== undefined ? button(text, () => this.#sort(id)) : text));
    this.above = h("tr", { class: "spacer", "aria-hidden": "true" }, h("td", { colspan: COLUMNS.length }));
    this.below = h("tr", { class: "spacer", "aria-hidden": "true" }, h("td", { colspan: COLUMNS.length }));
    this.body = h("tbody", { onclick: (event) => this.#clicked(event) }, this.above, this.below);
    this.table = h("table", { class: "services" }, h("thead", {}, h("tr", {}, this.heads)), this.body);
    this.empty = h("p", { class: "empty", hidden: true });
    this.element = h("div", { class: "page home" }, this.headline.element,
      h("div", { class: "toolbar" }, h("label", { class: "search" }, this.input, h("kbd", {}, "/")), this.shown),
      this.table, this.empty);
  }

  enter(signal) {
    store.on("services", () => this.#changed(), signal);
    store.on("figures", () => this.#fill(), signal);
    store.on("supervisor", () => this.headline.tick(), signal);
    addEventListener("scroll", () => this.#soon(), { passive: true, signal });
    addEventListener("resize", () => this.#soon(), { passive: true, signal });
    const tick = setInterval(() => { this.headline.tick(); this.#fill(); }, 1000);
    signal.addEventListener("abort", () => {
      clearInterval(tick);
      clearTimeout(this.late);
      store.inView = () => [];
    });
    store.inView = () => this.rows.filter((row) => row.index !== null).map((row) => row.name);
    this.headline.tick();
    this.#rearrange();
  }

  key(event) {
    if (event.key === "/") this.input.focus();
    else if (event.key === "j" || event.key === "ArrowDown") this.#move(1);
    else if (event.key === "k" || event.key === "ArrowUp") this.#move(-1);
    else if (event.key === "Enter" && kept.chosen && store.services.has(kept.chosen)) {
      this.go(`service/${encodeURIComponent(kept.chosen)}`);
    } else if (event.key === "Escape") {
      this.input.value = kept.filter = "";
      kept.phases.clear();
      this.input.blur();
      this.#rearrange();
    } else return false;
    return true;
  }

  /** Keys while the filter has the focus. */
  inputKey(event) {
    if (event.key !== "Enter" && event.key !== "ArrowDown") return false;
    this.input.blur();
    if (!this.view.some((one) => one.name === kept.chosen)) kept.chosen = null;
    this.#move(kept.chosen ? 0 : 1);
    return true;
  }

  #toggle(phases) {
    const on = phases.length > 1 || !kept.phases.has(phases[0]);
    for (const phase of phases) if (on) kept.phases.add(phase); else kept.phases.delete(phase);
    this.#rearrange();
  }

  #sort(id) {
    kept.down = kept.sort === id && !kept.down;
    kept.sort = id;
    this.#rearrange();
  }

  /** Arrange again after a change: at once, but with many services a few times a second. */
  #changed() {
    const wait = store.services.size > MANY ? this.built + MANY_EVERY_MS - performance.now() : 0;
    if (wait <= 0) this.#rearrange();
    else this.late ??= setTimeout(() => this.#rearrange(), wait);
  }

  #rearrange() {
    clearTimeout(this.late);
    this.late = undefined;
    const all = this.#byName();
    this.view = kept.filter || kept.phases.size ? all.filter(matcher(kept.filter, kept.phases)) : all;
    const by = COLUMNS.find(([id]) => id === kept.sort)[2];
    if (by) this.view = this.view.toSorted(kept.down ? (a, b) => by(b, a) : by);
    else if (kept.down) this.view = this.view.toReversed();
    this.heads.forEach((head, i) => mark(head, "aria-sort",
      COLUMNS[i][0] === kept.sort ? (kept.down ? "descending" : "ascending") : null));
    const total = store.services.size;
    say(this.shown, this.view.length === total ? count(total, "service")
      : `${this.view.length.toLocaleString("en-US")} of ${count(total, "service")}`);
    mark(this.table, "aria-rowcount", this.view.length + 1);
    this.empty.hidden = this.view.length > 0;
    say(this.empty, !store.synced ? "" : total ? "Nothing matches. Escape shows everything again." : "The configuration has no services yet.");
    this.headline.show(all);
    this.built = performance.now();
    this.#fill();
  }

  /** Return all services by name; names are compared only if there are other ones than before. */
  #byName() {
    if (this.membership !== store.membership) {
      this.membership = store.membership;
      this.names = [...store.services.keys()].sort(compare);
    }
    return this.names.map((name) => store.services.get(name));
  }

  #soon() {
    this.frame ??= requestAnimationFrame(() => { this.frame = undefined; this.#fill(); });
  }

  /** Fill the rows in view. */
  #fill() {
    const height = this.rows[0]?.element.offsetHeight || this.height || 44;
    this.height = height;
    const top = this.body.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(-top / height) - MARGIN);
    const last = Math.min(this.view.length, Math.ceil((innerHeight - top) / height) + MARGIN);
    const needed = Math.max(0, last - first);
    this.#turn(first);
    while (this.rows.length < needed) {
      const row = new Row();
      this.rows.push(row);
      this.below.before(row.element);
    }
    while (this.rows.length > needed) this.rows.pop().element.remove();
    this.above.firstChild.style.height = `${first * height}px`;
    this.below.firstChild.style.height = `${Math.max(0, this.view.length - last) * height}px`;
    this.above.hidden = first === 0;
    this.below.hidden = last >= this.view.length;
    let fresh = false;
    this.rows.forEach((row, i) => {
      // A record may be newer than the arrangement.
      const one = this.view[first + i];
      row.index = first + i;
      fresh ||= row.name !== one.name;
      row.show(store.services.get(one.name) ?? one, first + i, one.name === kept.chosen);
    });
    if (fresh) store.hurry();
  }

  /** Let rows that have left on one side come in on the other, so that the others stay as they are. */
  #turn(first) {
    const by = first - (this.first ?? first);
    this.first = first;
    if (Math.abs(by) >= this.rows.length) return;
    for (let i = 0; i < by; i++) {
      this.rows.push(this.rows.shift());
      this.below.before(this.rows.at(-1).element);
    }
    for (let i = 0; i > by; i--) {
      this.rows.unshift(this.rows.pop());
      this.above.after(this.rows[0].element);
    }
  }

  #move(by) {
    if (!this.view.length) return;
    const at = this.view.findIndex((one) => one.name === kept.chosen);
    const next = at < 0 ? (by >= 0 ? 0 : this.view.length - 1) : Math.max(0, Math.min(this.view.length - 1, at + by));
    kept.chosen = this.view[next].name;
    const top = this.body.getBoundingClientRect().top + next * this.height;
    const room = document.getElementById("top").offsetHeight + this.height;
    if (top < room) scrollBy({ top: top - room, behavior: "instant" });
    else if (top + this.height > innerHeight - this.height) {
      scrollBy({ top: top + 2 * this.height - innerHeight, behavior: "instant" });
    }
    this.#fill();
  }

  #clicked(event) {
    const row = event.target.closest("tr[data-name]");
    if (!row || event.target.closest("a, button") || String(getSelection())) return;
    this.go(`service/${encodeURIComponent(row.dataset.name)}`);
  }
}
