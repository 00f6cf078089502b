// The frame around the pages: header, banner, addresses, keys, colours, token.

import { ROOT, address, token } from "./api.js";
import { button, h, mark, s, say, toast } from "./dom.js";
import { age, clock, since } from "./format.js";
import { ConfigPage } from "./config.js";
import { EventsPage } from "./events.js";
import { GraphPage } from "./graph.js";
import { ServicePage } from "./service.js";
import { ServicesPage } from "./services.js";
import { TimelinePage } from "./timeline.js";
import { store } from "./store.js";

const PAGES = [
  ["", "Services", ServicesPage, "s"],
  ["timeline", "Timeline", TimelinePage, "t"],
  ["graph", "Graph", GraphPage, "g"],
  ["events", "Events", EventsPage, "e"],
  ["config", "Config", ConfigPage, "c"],
];

const THEMES = ["auto", "light", "dark"];
const THEME = "supervisord-pidfd.theme";

const main = document.getElementById("main");
const banner = document.getElementById("banner");
let page = null;
let leaving = null;

// -- addresses ------------------------------------------------------------------------------------

function here() {
  const path = location.pathname.slice(ROOT.pathname.length);
  if (path.startsWith("service/")) return ["service", decodeURIComponent(path.slice(8))];
  return [path];
}

function show() {
  leaving?.abort();
  leaving = new AbortController();
  const [path, name] = here();
  const found = PAGES.find(([at]) => at === path) ?? PAGES[0];
  page = path === "service" ? new ServicePage({ go, name, askToken }) : new found[2]({ go, askToken });
  document.title = `${page.title} · supervisord-pidfd`;
  main.replaceChildren(page.element);
  for (const link of document.querySelectorAll("nav a")) {
    const current = link.dataset.page === (path === "service" ? "" : found[0]);
    mark(link, "aria-current", current ? "page" : null);
    if (current) link.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
  page.enter(leaving.signal);
}

/** Go to a page of ours. */
export function go(path) {
  const url = address(path);
  if (url.pathname === location.pathname && url.search === location.search) return;
  history.replaceState({ y: scrollY }, "");
  history.pushState(null, "", url);
  show();
  scrollTo({ top: 0, behavior: "instant" });
  main.focus({ preventScroll: true });
}

addEventListener("popstate", (event) => {
  show();
  requestAnimationFrame(() => scrollTo({ top: event.state?.y ?? 0, behavior: "instant" }));
});

addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  if (link.origin !== location.origin || !link.pathname.startsWith(ROOT.pathname) || link.hash) return;
  const rest = link.pathname.slice(ROOT.pathname.length);
  if (rest.startsWith("v1/") || rest.startsWith("static/")) return;
  event.preventDefault();
  go(rest + link.search);
});

// -- header ---------------------------------------------------------------------------------------

const icon = (...shapes) => s("svg", { viewBox: "0 0 20 20", "aria-hidden": "true", class: "icon" },
  shapes.map((d) => s("path", { d, fill: "none", stroke: "currentColor", "stroke-width": 1.6, "stroke-linecap": "round", "stroke-linejoin": "round" })));

const live = h("span", { class: "live", role: "status" }, h("i"), h("span", {}, "connecting"));
const themeButton = button("", nextTheme, { class: "tool" });
const keyButton = button("", askToken, { class: "tool" });

function header() {
  // What is relative in the page would be relative to wherever we go.
  document.querySelector("link[rel=icon]").href = address("static/icon.svg");
  document.getElementById("top").append(
    h("a", { class: "brand", href: ROOT.pathname, "aria-label": "supervisord-pidfd, all services" },
      h("img", { src: address("static/icon.svg").href, width: 24, height: 24, alt: "" }), h("span", {}, "supervisord", h("b", {}, "pidfd"))),
    h("nav", { "aria-label": "Pages" }, PAGES.map(([path, text]) =>
      h("a", { href: address(path).pathname, "data-page": path }, text))),
    h("div", { class: "tools" }, live, keyButton, themeButton,
      button("?", help, { class: "tool", "aria-label": "Keys", title: "Keys (?)" })));
  theme(localStorage.getItem(THEME) ?? "auto");
  tokenShown();
}

function theme(name) {
  const chosen = THEMES.includes(name) ? name : "auto";
  mark(document.documentElement, "data-theme", chosen === "auto" ? null : chosen);
  const shapes = {
    auto: ["M10 3a7 7 0 1 0 0 14z", "M10 3a7 7 0 0 1 0 14"],
    light: ["M10 6.5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7z", "M10 1.8v1.6M10 16.6v1.6M1.8 10h1.6M16.6 10h1.6M4.2 4.2l1.1 1.1M14.7 14.7l1.1 1.1M15.8 4.2l-1.1 1.1M5.3 14.7l-1.1 1.1"],
    dark: ["M16.5 12A7 7 0 1 1 8 3.5a5.6 5.6 0 0 0 8.5 8.5z"],
  };
  themeButton.replaceChildren(icon(...shapes[chosen]));
  mark(themeButton, "aria-label", `Colours: ${chosen}`);
  mark(themeButton, "title", `Colours: ${chosen}`);
  themeButton.dataset.theme = chosen;
}

function nextTheme() {
  const next = THEMES[(THEMES.indexOf(themeButton.dataset.theme) + 1) % THEMES.length];
  if (next === "auto") localStorage.removeItem(THEME);
  else localStorage.setItem(THEME, next);
  theme(next);
}

// -- token ----------------------------------------------------------------------------------------

function tokenShown() {
  const held = Boolean(token.get());
  const may = store.level === "control";
  const text = may ? "You may change things" : held ? "Signed in to look" : "Enter a token";
  keyButton.replaceChildren(icon("M12.5 3a4.5 4.5 0 1 0 .01 0z", "M9.3 10.7 3.5 16.5M5.4 14.6l2 2"));
  mark(keyButton, "aria-label", text);
  mark(keyButton, "title", text);
  mark(keyButton, "data-on", may ? "" : null);
}

/** Ask for a token; it is kept in this tab, and sent to this gateway only. */
export function askToken() {
  if (document.querySelector("dialog[open]")) return;
  const input = h("input", { type: "password", id: "token", autocomplete: "off", spellcheck: "false", required: true });
  const dialog = h("dialog", { "aria-labelledby": "token-title" },
    h("form", { method: "dialog", onsubmit: () => accept(input.value.trim()) },
      h("h2", { id: "token-title" }, "Token"),
      h("p", {}, "A read token lets you look, a control token lets you start and stop. It stays in this tab, until the tab is closed."),
      h("label", { for: "token" }, "Token"), input,
      h("div", { class: "actions" },
        token.get() && button("Forget it", () => { accept(""); dialog.close(); }),
        button("Cancel", () => dialog.close()), h("button", { type: "submit", class: "primary" }, "Use it"))));
  open(dialog);
  input.focus();
}

function accept(value) {
  token.set(value);
  store.level = null;
  tokenShown();
  store.retry();
}

function open(dialog) {
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  document.body.append(dialog);
  dialog.showModal();
}

// -- keys -----------------------------------------------------------------------------------------

const KEYS = [
  ["/", "filter"], ["j k", "next, previous service"], ["Enter", "open it"], ["Esc", "clear the filter, go back"],
  ["s t g e c", "services, timeline, graph, events, configuration"], ["f", "follow the log"], ["p", "pause the log or the events"],
  ["d", "light or dark"], ["?", "this list"],
];

function help() {
  if (document.querySelector("dialog[open]")) return;
  const dialog = h("dialog", { "aria-labelledby": "keys-title", class: "keys" }, h("h2", { id: "keys-title" }, "Keys"),
    h("dl", {}, KEYS.map(([keys, text]) => [h("dt", {}, keys.split(" ").map((key) => h("kbd", {}, key))), h("dd", {}, text)])),
    h("div", { class: "actions" }, button("Close", () => dialog.close(), { class: "primary", autofocus: true })));
  open(dialog);
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = event.target.closest?.("input, textarea, select");
  if (typing) {
    if (event.key === "Escape") typing.blur();
    else if (page.inputKey?.(event)) event.preventDefault();
    return;
  }
  if (event.key === "Enter" && event.target.closest?.("a, button, summary")) return;
  if (page.key?.(event) || shortcut(event.key)) event.preventDefault();
});

function shortcut(key) {
  const found = PAGES.find((row) => row[3] === key);
  if (found) go(found[0]);
  else if (key === "?") help();
  else if (key === "d") nextTheme();
  else if (key === "Escape" && here()[0] !== "") go("");
  else return false;
  return true;
}

// -- contact --------------------------------------------------------------------------------------

function contact() {
  const refused = store.refused !== null;
  const state = refused ? "refused" : store.contact ? "live" : store.lostAt ? "lost" : "connecting";
  mark(live, "data-state", state);
  say(live.lastChild, { live: "live", lost: "no contact", refused: "token needed", connecting: "connecting" }[state]);
  banner.hidden = state !== "lost" && state !== "refused";
  mark(document.body, "data-stale", state === "live" ? null : "");
  if (state === "lost") {
    say(banner, `No contact with the supervisor since ${clock(store.lostAt)} (${age(since(store.lostAt))} ago). What you see is from then; trying again.`);
  } else if (state === "refused" && banner.dataset.state !== state) {
    banner.replaceChildren(store.refused === 401 ? "This gateway asks for a token. " : "This token does not open the dashboard. ",
      button("Enter a token", askToken, { class: "plain" }));
  }
  mark(banner, "data-state", state);
}

store.on("contact", contact);
store.on("refused", contact);
store.on("level", () => { tokenShown(); contact(); });
setInterval(contact, 1000);
addEventListener("unhandledrejection", (event) => toast(String(event.reason?.message ?? event.reason), "bad"));

header();
show();
contact();
store.run();
