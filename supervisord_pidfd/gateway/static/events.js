// What happens, as it happens.

import { address } from "./api.js";
import { button, h, mark, say } from "./dom.js";
import { clock, count, when } from "./format.js";
import { store } from "./store.js";

const SHOWN = 500;
const FRAME = new Set(["ts", "level", "event", "seq", "service", "group", "run", "pid", "at"]);
const LEVELS = ["debug", "info", "warning", "error"];
const kept = { text: "", level: "info" };

const plain = (value) => (value !== null && typeof value === "object" ? JSON.stringify(value) : String(value));

/** Write the fields of an event that are its own. */
export const fields = (event) => Object.entries(event)
  .filter(([name, value]) => !FRAME.has(name) && value !== null && value !== "")
  .map(([name, value]) => `${name}=${typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(3)) : plain(value)}`).join("  ");

export class EventsPage {
  title = "Events";

  constructor() {
    this.paused = false;
    this.last = 0;
    this.note = h("span", { class: "shown", role: "status" });
    this.input = h("input", { type: "search", placeholder: "Filter by event, service or field", "aria-label": "Filter events", value: kept.text,
      autocomplete: "off", spellcheck: "false", oninput: () => { kept.text = this.input.value; this.#all(); } });
    this.level = h("select", { "aria-label": "Least level", onchange: () => { kept.level = this.level.value; this.#all(); } },
      LEVELS.map((name) => h("option", { value: name, selected: name === kept.level }, name === "debug" ? "everything" : name === "error" ? "errors" : `${name} and above`)));
    this.pause = button("Pause", () => this.#pause(), { title: "p", "aria-pressed": "false" });
    this.list = h("ol", { class: "events" });
    this.empty = h("p", { class: "empty" }, "Nothing has happened yet that matches.");
    this.element = h("div", { class: "page" }, h("h1", {}, "Events"), h("div", { class: "toolbar" },
      h("label", { class: "search" }, this.input, h("kbd", {}, "/")), this.level, this.pause, this.note), this.list, this.empty);
  }

  enter(signal) {
    store.on("events", () => this.#more(), signal);
    this.#all();
  }

  key(event) {
    if (event.key === "/") this.input.focus();
    else if (event.key === "p") this.#pause();
    else return false;
    return true;
  }

  #pause() {
    this.paused = !this.paused;
    mark(this.pause, "aria-pressed", this.paused ? "true" : "false");
    if (!this.paused) this.#all();
    this.#count();
  }

  #holds(event) {
    if (LEVELS.indexOf(event.level ?? "info") < LEVELS.indexOf(kept.level) && event.event !== "gap") return false;
    if (!kept.text) return true;
    const text = `${event.event} ${event.service ?? ""} @${event.group ?? ""} ${fields(event)}`.toLowerCase();
    return kept.text.toLowerCase().split(/\s+/).every((word) => text.includes(word));
  }

  #all() {
    const found = store.events.filter((event) => this.#holds(event)).slice(-SHOWN).reverse();
    this.list.replaceChildren(...found.map((event) => this.#line(event)));
    this.last = store.events.at(-1) ?? null;
    this.length = store.events.length;
    this.#count();
  }

  /** Put what is new on top; if the past has been filled in, begin anew. */
  #more() {
    this.#count();
    if (this.paused) return;
    const from = store.events.lastIndexOf(this.last);
    if (this.last === null || from < 0 || (from + 1 !== this.length && store.events.length < 2000)) {
      this.#all();
      return;
    }
    const found = store.events.slice(from + 1).filter((event) => this.#holds(event));
    this.last = store.events.at(-1);
    this.length = store.events.length;
    this.list.prepend(...found.reverse().map((event) => this.#line(event)));
    while (this.list.childElementCount > SHOWN) this.list.lastChild.remove();
    this.#count();
  }

  #count() {
    const waiting = this.paused && this.last ? store.events.length - 1 - store.events.lastIndexOf(this.last) : 0;
    say(this.note, this.paused ? `paused, ${count(waiting, "event")} waiting` : "");
    this.empty.hidden = this.list.childElementCount > 0;
  }

  #line(event) {
    if (event.event === "gap") return h("li", { class: "l-warning" }, h("time", {}, clock(event.at)), h("b", {}, `${count(event.lost, "event")} missed`));
    return h("li", { class: `l-${event.level}` }, h("time", { datetime: event.ts, title: when(event.ts) }, clock(event.at)),
      h("span", { class: "level", title: event.level }, event.level), h("b", {}, event.event),
      event.service ? h("a", { href: address(`service/${encodeURIComponent(event.service)}`).pathname }, event.service) : h("span"),
      h("span", { class: "fields" }, fields(event)));
  }
}
