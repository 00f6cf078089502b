// The live tail of a service's log.

import { ApiError, follow } from "./api.js";
import { button, h, mark, say } from "./dom.js";
import { clock, count } from "./format.js";
import { store } from "./store.js";

const LINES = 2000;
const HELD = 5000;
const LAST = 200;
const AGAIN_MS = 1000;

/** Wait until services have changed. */
const news = (signal) => new Promise((done) => {
  store.addEventListener("services", done, { once: true, signal });
  signal.addEventListener("abort", done, { once: true });
});

export class LogTail {
  constructor(name) {
    this.name = name;
    this.held = [];
    this.coming = [];
    this.seen = new Map();
    this.paused = false;
    this.following = true;
    this.lines = h("div", { class: "lines", tabindex: 0, role: "log", "aria-label": `Log of ${name}`, "aria-live": "off",
      onscroll: () => this.#scrolled() });
    this.note = h("p", { class: "note", hidden: true });
    this.followButton = button("Follow", () => this.setFollowing(!this.following), { title: "f" });
    this.pauseButton = button("Pause", () => this.setPaused(!this.paused), { title: "p" });
    this.wrapButton = button("Wrap", () => this.#wrap(), { "aria-pressed": "true" });
    this.input = h("input", { type: "search", placeholder: "Filter lines", "aria-label": "Filter log lines", autocomplete: "off",
      spellcheck: "false", oninput: () => this.#refilter() });
    this.element = h("section", { class: "card log wrap" }, h("header", {}, h("h2", {}, "Log"), h("div", { class: "controls" },
      this.input, this.wrapButton, this.pauseButton, this.followButton)), this.lines, this.note);
    this.#shown();
  }

  async run(signal) {
    while (!signal.aborted) {
      if (!store.services.get(this.name)?.captured) {
        this.#tell(store.synced ? "Its output is not captured (log.to), so there is nothing to follow here." : "");
        await news(signal);
        continue;
      }
      try {
        for await (const [type, data] of follow("v1/logs", { service: this.name, last: LAST, follow: 1 }, signal)) {
          this.#tell(type === "error" ? data.error?.message ?? "The log has ended." : "");
          if (type === "gap" || data.event === "gap") this.#gap(data.lost);
          else if (data.msg !== undefined) this.#take(data);
        }
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof ApiError && error.status !== 503) {
          this.#tell(error.status === 404 ? "There is no such service." : error.message);
          if (error.status !== 401) return;
        }
      }
      await new Promise((done) => setTimeout(done, AGAIN_MS));
    }
  }

  setFollowing(on) {
    this.following = on;
    if (on) this.lines.scrollTop = this.lines.scrollHeight;
    this.#shown();
  }

  setPaused(on) {
    this.paused = on;
    if (!on) {
      for (const line of this.held) this.#queue(line);
      this.held = [];
    }
    this.#shown();
  }

  #tell(text) {
    say(this.note, text);
    this.note.hidden = !text;
  }

  #shown() {
    mark(this.followButton, "aria-pressed", this.following ? "true" : "false");
    mark(this.pauseButton, "aria-pressed", this.paused ? "true" : "false");
    say(this.pauseButton, this.paused ? (this.held.length ? `Resume (${count(this.held.length, "line")})` : "Resume") : "Pause");
  }

  /** Take a line, once: after a break in the connection the last lines come again. */
  #take(line) {
    const key = `${line.run} ${line.stream}`;
    if (line.seq <= (this.seen.get(key) ?? -1)) return;
    this.seen.set(key, line.seq);
    if (!this.paused) this.#queue(line);
    else {
      this.held.push(line);
      if (this.held.length > HELD) this.held.shift();
      this.#shown();
    }
  }

  #gap(lost) {
    this.#queue({ ts: new Date().toISOString(), stream: "gap", msg: `${count(lost ?? 0, "line")} were not kept for you` });
  }

  #queue(line) {
    this.coming.push(line);
    if (this.coming.length > LINES) this.coming.shift();
    this.frame ??= setTimeout(() => this.#write(), document.hidden ? 1000 : 30);
  }

  #write() {
    this.frame = undefined;
    const stay = this.following;
    this.lines.append(...this.coming.map((line) => this.#line(line)));
    this.coming = [];
    let over = this.lines.childElementCount - LINES;
    while (over-- > 0) this.lines.firstChild.remove();
    if (stay) {
      this.ours = true;
      this.lines.scrollTop = this.lines.scrollHeight;
    }
  }

  #line(line) {
    const element = h("div", { class: `line s-${line.stream}` }, h("time", { datetime: line.ts, title: line.ts }, clock(line.ts)),
      h("span", { class: "mark", title: line.stream }, line.stream === "stderr" ? "!" : " "),
      h("span", { class: "msg" }, line.msg + (line.partial ? " …" : "")));
    this.#sift(element);
    return element;
  }

  #sift(element) {
    element.hidden = Boolean(this.wanted) && !element.lastChild.textContent.toLowerCase().includes(this.wanted);
  }

  #refilter() {
    this.wanted = this.input.value.toLowerCase();
    for (const element of this.lines.children) this.#sift(element);
    if (this.following) this.lines.scrollTop = this.lines.scrollHeight;
  }

  #wrap() {
    const on = this.element.classList.toggle("wrap");
    mark(this.wrapButton, "aria-pressed", on ? "true" : "false");
  }

  /** Whoever scrolls up wants to read; whoever is at the end wants to follow. */
  #scrolled() {
    if (this.ours) {
      this.ours = false;
      return;
    }
    const end = this.lines.scrollHeight - this.lines.scrollTop - this.lines.clientHeight < 8;
    if (end !== this.following) {
      this.following = end;
      this.#shown();
    }
  }
}
