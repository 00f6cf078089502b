// Ask the gateway. A token lives in this tab only (sessionStorage), and there are no cookies.

/** The address of the dashboard, whatever the proxy in front calls it. */
export const ROOT = new URL("..", import.meta.url);

const KEY = "supervisord-pidfd.token";
const QUIET_S = 45;
const SLEEPY_MS = 15000;

// A browser opens no more than six connections to a gateway, for all its tabs together, and a page
// that was left may be kept with what it holds. So a tab that nobody sees gives its streams back.
const streams = new Set();
let bedtime;
let waking = [];

/** Tell whether this tab has given its streams back until it is seen again. */
export const tab = { asleep: false };

function sleep() {
  clearTimeout(bedtime);
  tab.asleep = true;
  for (const control of streams) control.abort();
}

function wake() {
  clearTimeout(bedtime);
  tab.asleep = false;
  for (const done of waking) done();
  waking = [];
}

const awake = () => (tab.asleep ? new Promise((done) => waking.push(done)) : undefined);

document.addEventListener("visibilitychange", () => {
  clearTimeout(bedtime);
  if (document.hidden) bedtime = setTimeout(sleep, SLEEPY_MS);
  else wake();
});
addEventListener("pagehide", sleep);
addEventListener("pageshow", wake);

export class ApiError extends Error {
  constructor(status, name, message, parameters) {
    super(message);
    this.status = status;
    this.name = name;
    this.parameters = parameters ?? {};
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEY),
  set(value) {
    if (value) sessionStorage.setItem(KEY, value);
    else sessionStorage.removeItem(KEY);
  },
};

/** Make the address of something; empty fields of the query are left out. */
export function address(path, query = {}) {
  const url = new URL(path, ROOT);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") url.searchParams.set(name, value);
  }
  return url;
}

/** Return the path of a service. */
export const pathOf = (name, rest = "") => `v1/services/${encodeURIComponent(name)}${rest}`;

async function ask(path, query, options = {}) {
  const headers = { ...options.headers };
  if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
  const response = await fetch(address(path, query), {
    cache: "no-store", credentials: "omit", redirect: "error", ...options, headers,
  });
  if (response.ok) return response;
  let said = {};
  try {
    said = (await response.json()).error ?? {};
  } catch { /* an answer without words */ }
  throw new ApiError(response.status, said.name ?? `${response.status}`,
    said.message ?? `the gateway answers ${response.status} ${response.statusText}`, said.parameters);
}

/** Read something. */
export const get = async (path, query, signal) =>
  (await ask(path, query, { signal, headers: { Accept: "application/json" } })).json();

/** Read a list that comes as one JSON value a line. */
export async function lines(path, query, signal) {
  const response = await ask(path, query, { signal, headers: { Accept: "application/x-ndjson" } });
  return (await response.text()).split("\n").filter(Boolean).map((line) => JSON.parse(line));
}

/** Change something; needs a token of level control. */
export async function post(path, query) {
  const headers = { Accept: "application/json", "X-Supervisord-Request": "1" };
  const response = await ask(path, query, { method: "POST", headers });
  return response.json();
}

/** Follow server-sent events, as [type, data, id]; throws when the stream ends or falls silent. */
export async function* follow(path, query, signal) {
  await awake();
  const control = new AbortController();
  const stop = () => control.abort();
  streams.add(control);
  signal?.addEventListener("abort", stop);
  let watch = setTimeout(stop, QUIET_S * 1000);
  try {
    const response = await ask(path, query, {
      signal: control.signal, headers: { Accept: "text/event-stream" },
    });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      clearTimeout(watch);
      watch = setTimeout(stop, QUIET_S * 1000);
      rest += value;
      const blocks = rest.split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const event = parsed(block);
        if (event) yield event;
      }
    }
  } finally {
    clearTimeout(watch);
    signal?.removeEventListener("abort", stop);
    streams.delete(control);
    control.abort();
  }
}

function parsed(block) {
  let type = "message";
  let id = null;
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
    else if (line.startsWith("event:")) type = line.slice(6).trim();
    else if (line.startsWith("id:")) id = line.slice(3).trim();
  }
  return data.length ? [type, JSON.parse(data.join("\n")), id] : null;
}
