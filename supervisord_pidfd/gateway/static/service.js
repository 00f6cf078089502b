// One service: why it is where it is, what it did, what it says.

import { address, get, pathOf, post } from "./api.js";
import { button, h, mark, say, toast } from "./dom.js";
import { age, bytes, clock, count, length, since, when } from "./format.js";
import { Drawing, legend, neighbourhood } from "./graph.js";
import { LogTail } from "./log.js";
import { glyph, look, remark } from "./phases.js";
import { mood, strip } from "./runs.js";
import { Chart } from "./spark.js";
import { store } from "./store.js";

const RUNS = 20;
const SIGNALS = ["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGINT", "SIGTERM", "SIGQUIT", "SIGWINCH", "SIGSTOP", "SIGCONT", "SIGKILL"];

/** Return the buttons that make sense in a phase. */
function actions(one) {
  const up = ["running", "starting", "stopping", "waiting", "backoff"].includes(one.phase);
  return [["start", !up || one.phase === "stopping", "Start"], ["stop", up && one.phase !== "stopping", "Stop"], ["restart", true, "Restart"],
    ["reload", one.phase === "running", "Reload"], ["reset", one.phase === "failed" || one.phase === "backoff", "Reset"]];
}

const card = (title, ...children) => h("section", { class: "card" }, h("h2", {}, title), children);

export class ServicePage {
  constructor({ go, name, askToken }) {
    this.name = this.title = name;
    this.askToken = askToken;
    this.head = h("div", { class: "who" });
    this.word = h("span", { class: "word" });
    this.notes = h("span", { class: "badges" });
    this.sub = h("p", { class: "about" });
    this.buttons = h("div", { class: "buttons" });
    this.summary = h("p", { class: "summary" });
    this.facts = h("dl", { class: "facts" });
    this.tries = h("ul", { class: "tries" });
    this.cpu = new Chart("cpu");
    this.rss = new Chart("rss");
    this.figures = h("p", { class: "figures num" });
    this.checks = h("div", { class: "checks" });
    this.checkCard = card("Checks", this.checks);
    this.strip = h("div");
    this.runs = h("tbody");
    this.drawing = new Drawing();
    this.drawing.go = go;
    this.deps = card("Neighbourhood", this.drawing.element, legend());
    this.deps.hidden = true;
    this.config = h("pre", { class: "toml" });
    this.log = new LogTail(name);
    this.element = this.#frame();
  }

  #frame() {
    return h("div", { class: "page service" },
      h("div", { class: "title" }, h("div", {}, h("a", { class: "back", href: address("").pathname }, "← Services"),
        h("h1", {}, this.head, h("span", {}, this.name), this.word, this.notes), this.sub), this.buttons),
      h("div", { class: "columns" },
        h("div", { class: "main" },
          h("section", { class: "card why" }, h("h2", {}, "Why"), this.summary, this.facts, this.tries),
          this.log.element,
          this.deps,
          h("section", { class: "card" }, h("h2", {}, `Last ${RUNS} runs`), this.strip,
            h("div", { class: "scroller", tabindex: 0, role: "group", "aria-label": "Runs" }, h("table", { class: "runs" }, h("thead", {}, h("tr", {}, ["Run", "Started", "Lasted", "Ended", "Next", "Max RSS", "CPU"]
              .map((text) => h("th", { scope: "col" }, text)))), this.runs)))),
        h("div", { class: "side" }, h("section", { class: "card" }, h("h2", {}, "Use"), this.cpu.element, this.rss.element, this.figures),
          this.checkCard,
          h("details", { class: "card", ontoggle: (event) => event.target.open && this.#config() }, h("summary", {}, h("h2", {}, "Effective configuration")), this.config))));
  }

  enter(signal) {
    this.signal = signal;
    store.on("services", () => this.#changed(), signal);
    store.on("figures", () => this.#measured(), signal);
    store.on("level", () => this.#actions(store.services.get(this.name)), signal);
    store.inView = () => [this.name];
    const tick = setInterval(() => this.#tick(), 1000);
    signal.addEventListener("abort", () => {
      clearInterval(tick);
      clearTimeout(this.later);
      store.inView = () => [];
    });
    this.#changed();
    this.#measured();
    this.#explain();
    this.#history();
    this.#depend();
    this.log.run(signal);
  }

  key(event) {
    if (event.key === "f") this.log.setFollowing(!this.log.following);
    else if (event.key === "p") this.log.setPaused(!this.log.paused);
    else if (event.key === "/") this.log.input.focus();
    else return false;
    return true;
  }

  // -- what is live -------------------------------------------------------------------------------

  #changed() {
    const one = store.services.get(this.name);
    if (one === this.one) return;
    const before = this.one;
    this.one = one;
    if (!one) {
      say(this.sub, store.synced ? "There is no service of this name." : "");
      mark(this.element, "data-gone", store.synced ? "" : null);
      this.buttons.replaceChildren();
      return;
    }
    mark(this.element, "data-gone", null);
    if (!before || before.phase !== one.phase || look(before) !== look(one)) {
      this.head.replaceChildren(glyph(look(one)));
      say(this.word, one.phase);
      mark(this.word, "class", `word p-${one.phase}`);
    }
    const notes = [remark(one), one.type, one.group && one.group !== one.name && `@${one.group}`, one.critical && "critical", one.adopted && "adopted"];
    this.notes.replaceChildren(...notes.filter(Boolean).map((text, i) => h("span", { class: i === 0 && remark(one) ? "badge hot" : "badge" }, text)));
    this.#actions(one);
    this.#tick();
    this.#soon();
  }

  #tick() {
    const one = this.one;
    if (!one) return;
    const parts = [one.description, `${one.phase} for ${age(since(one.since, store.skew))}`, one.pid && `pid ${one.pid}`,
      `${count(one.restarts, "restart")}${one.restarts_1h ? ` (${one.restarts_1h} in 1h)` : ""}`, one.status_text && `“${one.status_text}”`];
    say(this.sub, parts.filter(Boolean).join(" · "));
    for (const fact of this.facts.querySelectorAll("time")) say(fact, `${age(since(fact.dateTime, store.skew))} ago`);
  }

  #measured() {
    const points = store.history(this.name);
    const alive = Boolean(this.one?.pid);
    this.cpu.show(points, alive);
    this.rss.show(points, alive);
    const last = points.at(-1);
    say(this.figures, alive && last ? [last.threads && count(last.threads, "thread"), last.fds && count(last.fds, "descriptor")].filter(Boolean).join(" · ") : "No process, nothing to measure.");
  }

  /** Read again what the record does not hold, once things have calmed down. */
  #soon() {
    clearTimeout(this.later);
    this.later = setTimeout(() => {
      this.#explain();
      this.#history();
      this.#depend();
    }, 150);
  }

  // -- what is asked for ----------------------------------------------------------------------------

  async #read(rest, query) {
    try {
      return await get(pathOf(this.name, rest), query, this.signal);
    } catch {
      return null; // the banner tells why, and the next change asks again
    }
  }

  async #explain() {
    const told = await this.#read("/explain");
    if (!told) return;
    say(this.summary, told.summary);
    this.facts.replaceChildren(...told.facts.map((fact) => [h("dt", {}, fact.label), h("dd", {}, fact.text,
      fact.at && [" ", h("time", { datetime: fact.at, title: when(fact.at) })],
      fact.file && h("code", { class: "place" }, fact.line ? `${fact.file}:${fact.line}` : fact.file))]).flat());
    this.tries.replaceChildren(...told.try.map((text) => h("li", {}, h("code", {}, text),
      button("Copy", () => copy(text), { class: "plain", "aria-label": `Copy: ${text}` }))));
    this.#checks(told.service.checks);
    this.#tick();
  }

  #checks(checks) {
    this.checkCard.hidden = !checks.length;
    this.checks.replaceChildren(...checks.map((check) => {
      const word = check.ok === null ? "no verdict yet" : check.ok ? "passes" : "fails";
      return h("div", { class: "check", "data-ok": String(check.ok) }, h("div", {}, h("b", {}, check.name), h("span", { class: "kind" }, check.kind),
        h("span", { class: "verdict" }, `${check.ok === null ? "○" : check.ok ? "✓" : "✕"} ${word}`)),
        h("p", { class: "num" }, [check.last_at && `${clock(check.last_at)}, took ${length(check.last_duration_s)}`,
          check.failures > 0 && count(check.failures, "failure")].filter(Boolean).join(" · ")),
        check.error && h("p", { class: "error" }, check.error));
    }));
  }

  async #history() {
    const told = await this.#read("/history", { last: RUNS });
    if (!told) return;
    const runs = [...told.runs].sort((a, b) => b.run - a.run);
    this.strip.replaceChildren(strip(runs));
    this.runs.replaceChildren(...runs.map((run) => h("tr", { class: `m-${run.ended_at ? mood(run.exit?.cause) : "live"}` },
      h("td", { class: "num" }, run.run), h("td", { class: "num" }, when(run.started_at)),
      h("td", { class: "num" }, length(run.lasted_s ?? since(run.started_at, store.skew))),
      h("td", { class: "ended" }, run.exit?.text ?? (run.ended_at ? "status unknown" : "running")), h("td", {}, nextOf(run)),
      h("td", { class: "num" }, bytes(run.max_rss_bytes)),
      h("td", { class: "num" }, run.user_cpu_s === null ? "–" : length(run.user_cpu_s + run.system_cpu_s)))));
  }

  async #depend() {
    let edges;
    try {
      edges = await neighbourhood(this.name, this.signal);
    } catch {
      return;
    }
    this.deps.hidden = !edges.length;
    const key = JSON.stringify(edges);
    if (edges.length && key !== this.edges) this.drawing.show(edges, this.name);
    this.edges = key;
    this.drawing.refresh();
  }

  async #config() {
    const told = await this.#read("/config");
    if (!told) return say(this.config, "The configuration cannot be read now.");
    this.config.replaceChildren(...told.toml.split("\n").map((line) => tomlLine(line)));
  }

  // -- buttons --------------------------------------------------------------------------------------

  #actions(one) {
    if (!one) return;
    const key = `${store.level} ${one.phase}`;
    if (key === this.actionsFor) return;
    this.actionsFor = key;
    if (store.level !== "control") {
      this.buttons.replaceChildren(button("Control…", () => this.askToken(), { class: "lock", title: "Enter a control token to start, stop and signal" }));
      return;
    }
    const choice = h("select", { "aria-label": "Signal" }, SIGNALS.map((name) => h("option", {}, name)));
    this.buttons.replaceChildren(...actions(one).map(([verb, on, text]) => button(text, (event) => this.#do(verb, {}, event.target),
      { class: verb, disabled: !on })), h("span", { class: "joined" }, choice,
      button("Signal", (event) => this.#do("signal", { signal: choice.value }, event.target), { disabled: !one.pid })));
  }

  async #do(verb, query, pressed) {
    pressed.disabled = true;
    try {
      const waits = verb === "signal" || verb === "reset";
      const told = await post(pathOf(this.name, `/${verb}`), waits ? query : { ...query, wait: 0 });
      const failed = (told.outcomes ?? []).find((outcome) => !outcome.ok);
      if (failed) toast(`${this.name}: ${failed.message}`, "bad");
      else toast(`${verb} ${query.signal ?? ""} ${this.name}: asked`.replace("  ", " "), "good");
    } catch (error) {
      toast(error.status === 401 || error.status === 403 ? `The token does not allow to ${verb}.` : `Cannot ${verb} ${this.name}: ${error.message}`, "bad");
    } finally {
      pressed.disabled = false;
      this.actionsFor = null;
      this.#actions(store.services.get(this.name));
    }
  }
}

const nextOf = (run) => [run.next, run.delay_s ? `in ${length(run.delay_s)}` : null].filter(Boolean).join(" ") || "–";

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast("Copied", "good");
  } catch {
    toast("This browser copies only on secure pages; select the text instead.", "bad");
  }
}

/** Colour a line of TOML: comments, tables, keys. */
function tomlLine(text) {
  const comment = text.match(/^(.*?)(\s+#\s.*|^#.*)$/);
  const [code, rest] = comment ? [comment[1], comment[2]] : [text, ""];
  const pair = code.match(/^(\s*[\w."@-]+)(\s*=\s*)(.*)$/);
  const body = code.startsWith("[") ? [h("b", { class: "table" }, code)]
    : pair ? [h("span", { class: "key" }, pair[1]), pair[2], h("span", { class: "value" }, pair[3])] : [code];
  return h("span", {}, body, rest && h("span", { class: "comment" }, rest), "\n");
}

