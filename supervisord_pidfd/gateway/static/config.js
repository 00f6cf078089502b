// The configuration in use, what a reload would change, and the supervisor itself.

import { get, post } from "./api.js";
import { button, h, toast } from "./dom.js";
import { age, count, since, when } from "./format.js";
import { phaseOf } from "./phases.js";
import { store } from "./store.js";

const SIGN = { add: "+", remove: "−", restart: "⟳", update: "~" };

export class ConfigPage {
  title = "Configuration";

  constructor({ askToken }) {
    this.askToken = askToken;
    this.facts = h("dl", { class: "facts" });
    this.files = h("ul", { class: "files" });
    this.error = h("div", { class: "problem", hidden: true });
    this.plan = h("div", { class: "plan" });
    this.about = h("dl", { class: "facts" });
    this.internal = h("div", { class: "internal" });
    this.element = h("div", { class: "page" }, h("h1", {}, "Configuration"), this.error, h("div", { class: "columns even" },
      h("section", { class: "card" }, h("h2", {}, "In use"), this.facts, this.files),
      h("section", { class: "card" }, h("h2", {}, "On disk"), h("p", { class: "about" }, "What would change if the files were applied now."), this.plan),
      h("section", { class: "card" }, h("h2", {}, "Supervisor"), this.about, this.internal)));
  }

  enter(signal) {
    this.signal = signal;
    store.on("supervisor", () => this.#show(), signal);
    store.on("level", () => this.#offer(), signal);
    this.#show();
    this.#offer();
  }

  #show() {
    const it = store.supervisor;
    if (!it) return;
    const { config } = it;
    this.facts.replaceChildren(...pairs([["generation", String(config.generation)], ["applied", `${when(config.applied_at)} (${age(since(config.applied_at, store.skew))} ago)`],
      ["digest", h("code", {}, config.digest || "–")], ["main file", config.file ? h("code", {}, config.file) : "none: a command was given"]]));
    this.files.replaceChildren(...config.files.map((file) => h("li", {}, h("code", {}, file))));
    this.error.hidden = !config.last_error;
    this.error.replaceChildren(h("b", {}, "The last change was rejected. "), "The configuration above stays in use.", h("pre", {}, config.last_error ?? ""));
    this.about.replaceChildren(...pairs([["version", it.version], ["pid", `${it.pid}${it.pid1 ? " (as PID 1)" : ""}`], ["phase", it.phase],
      ["started", `${when(it.started_at)} (${age(since(it.started_at, store.skew))} ago)`],
      ["reaper", it.reaper + (it.reaper_reason ? `: ${it.reaper_reason}` : "")], ["kernel offers", it.features.join(", ") || "–"]]));
    this.internal.replaceChildren(...store.internal.map((one) => h("div", {}, h("b", {}, one.name), phaseOf(one.phase), h("span", { class: "num" }, one.pid ? `pid ${one.pid}` : ""))));
  }

  #offer() {
    if (store.level !== "control") {
      this.plan.replaceChildren(h("p", {}, "Reading the files again needs a control token. "), button("Enter a token…", () => this.askToken()));
    } else if (!this.asked) {
      this.plan.replaceChildren(button("Show the plan", () => this.#plan(), { class: "primary" }));
    }
  }

  async #plan() {
    this.asked = true;
    this.plan.replaceChildren(h("p", { class: "about" }, "Reading the files…"));
    try {
      this.#planned(await get("v1/plan", {}, this.signal));
    } catch (error) {
      this.#refused(error);
    }
  }

  #refused(error) {
    const problems = error.parameters?.problems ?? [];
    this.plan.replaceChildren(h("p", { class: "error" }, problems.length ? "The files have problems:" : error.message),
      problemList(problems), button("Read again", () => this.#plan()));
  }

  #planned(told) {
    const items = told.items.map((item) => h("li", { class: `i-${item.action}` }, h("span", { class: "sign", "aria-hidden": "true" }, SIGN[item.action]),
      h("b", {}, item.service), h("span", {}, item.action), h("ul", {}, item.changes.map((change) => h("li", {}, h("code", {}, change.key), " ",
        change.old !== null && [h("del", {}, change.old), " → "], change.new !== null && h("ins", {}, change.new),
        change.file && h("span", { class: "place" }, `${change.file}${change.line ? `:${change.line}` : ""}`))))));
    const apply = button(`Apply ${count(items.length, "change")}`, () => this.#apply(told.digest, apply), { class: "primary" });
    this.plan.replaceChildren(...[problemList(told.problems ?? []), items.length ? h("ul", { class: "items" }, items) : h("p", {}, "Nothing: the files say what is in use."),
      h("div", { class: "actions" }, items.length > 0 && apply, button("Read again", () => this.#plan()))].filter(Boolean));
  }

  async #apply(digest, pressed) {
    pressed.disabled = true;
    try {
      await post("v1/apply", { expect: digest, wait: 0 });
      toast("Applying", "good");
      this.asked = false;
      this.#offer();
    } catch (error) {
      this.#refused(error);
    }
  }
}

const pairs = (rows) => rows.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]).flat();

const problemList = (problems) => problems.length > 0 && h("ul", { class: "problems" }, problems.map((problem) => h("li", { class: `l-${problem.severity}` },
  h("code", {}, `${problem.file}:${problem.line}:${problem.column}`), " ", problem.message, problem.hint && h("em", {}, ` ${problem.hint}`))));

