// What this tab knows: services, events, the supervisor, and whether all of it is still true.

import { ApiError, follow, get, lines, tab } from "./api.js";

const EVENTS_KEPT = 2000;
const RETRY_S = [0.25, 0.5, 1, 2, 5];
const SAMPLE_S = 2;
const SAMPLES = 150;
const HURRY_MS = 300;
const ALL_BELOW = 500;
/** With more services than this only those in view are measured. */

class Store extends EventTarget {
  services = new Map();
  events = [];
  supervisor = null;
  internal = [];
  level = null;
  synced = false;
  contact = false;
  lostAt = null;
  skew = 0;
  refused = null;
  measured = new Map();
  /** Changes whenever a service comes or goes. */
  membership = 0;
  inView = () => [];
  #told = new Set();
  #turn = null;
  #latest = 0;
  #again = null;
  #due = () => {};
  #hurried;

  /** Note that something changed; whoever listens hears of it once a frame. */
  changed(what) {
    this.#told.add(what);
    if (this.#turn !== null) return;
    const turn = () => {
      this.#turn = null;
      const told = this.#told;
      this.#told = new Set();
      for (const one of told) this.dispatchEvent(new Event(one));
    };
    // A tab in the background gets no frames, but should not fall behind for ever.
    this.#turn = document.hidden ? setTimeout(turn, 1000) : requestAnimationFrame(turn);
  }

  /** Listen until the page that asked is left. */
  on(what, listener, signal) {
    this.addEventListener(what, listener, { signal });
  }

  /** Forget the token's refusal, and try again at once. */
  retry() {
    this.refused = null;
    this.#again?.abort();
  }

  async run() {
    this.#measure();
    for (let failures = 0; ; ) {
      this.#again = new AbortController();
      const before = this.#latest;
      try {
        await this.#listen(this.#again.signal);
      } catch (error) {
        if (error instanceof ApiError && (error.status === 401 || error.status === 403)) {
          this.refused = error.status;
          this.changed("refused");
        }
      }
      this.#lost(tab.asleep ? null : this.lostAt ?? new Date().toISOString());
      failures = this.#latest > before ? 0 : failures + 1;
      await this.#pause(RETRY_S[Math.min(failures, RETRY_S.length - 1)]);
    }
  }

  #pause(seconds) {
    const control = this.#again = this.#again.signal.aborted ? new AbortController() : this.#again;
    return new Promise((done) => {
      const go = () => done(clearTimeout(timer));
      const timer = setTimeout(go, seconds * 1000);
      control.signal.addEventListener("abort", go, { once: true });
    });
  }

  async #listen(signal) {
    const seen = new Set();
    let whole = false;
    for await (const [type, data] of follow("v1/watch", {}, signal)) {
      this.#latest = Date.now();
      switch (type) {
        case "hello":
          this.level = data.level;
          this.skew = (Date.now() - Date.parse(data.now)) / 1000;
          this.refused = null;
          this.changed("level");
          break;
        case "services":
          for (const one of data) {
            if (!whole) seen.add(one.name);
            if (!this.services.has(one.name)) this.membership++;
            this.services.set(one.name, one);
          }
          this.changed("services");
          break;
        case "removed":
          for (const name of data) this.#forget(name);
          this.changed("services");
          break;
        case "synced":
          if (!whole) for (const name of this.services.keys()) if (!seen.has(name)) this.#forget(name);
          whole = this.synced = true;
          this.changed("services");
          break;
        case "event":
          this.#happened(data);
          break;
        case "supervisor":
          this.supervisor = data;
          this.internal = data.internal ?? [];
          this.changed("supervisor");
          break;
        case "contact":
          if (data.ok) this.#found();
          else this.#lost(data.since);
          break;
        default:
      }
    }
  }

  #forget(name) {
    this.membership++;
    this.services.delete(name);
    this.measured.delete(name);
  }

  #happened(events) {
    for (const event of events) {
      event.at = Date.parse(event.ts ?? new Date().toISOString());
      this.events.push(event);
    }
    if (this.events.length > EVENTS_KEPT) this.events.splice(0, this.events.length - EVENTS_KEPT);
    this.changed("events");
  }

  #found() {
    if (this.contact) return;
    this.contact = true;
    this.lostAt = null;
    this.changed("contact");
    this.#recall();
  }

  /** Fetch the events from before this tab was there, or missed while there was no contact. */
  async #recall() {
    try {
      const events = await lines("v1/events", { last: 1000, follow: 0 });
      const known = new Set(this.events.map((event) => event.seq));
      const missed = events.filter((event) => !known.has(event.seq));
      if (!missed.length) return;
      for (const event of missed) event.at = Date.parse(event.ts);
      this.events = [...this.events, ...missed].sort((a, b) => a.at - b.at || a.seq - b.seq).slice(-EVENTS_KEPT);
      this.changed("events");
    } catch { /* the past is a comfort, not a need */ }
  }

  #lost(moment) {
    if (!this.contact && (this.lostAt || !moment)) return;
    this.contact = false;
    this.lostAt = moment;
    this.changed("contact");
  }

  // -- figures ------------------------------------------------------------------------------------

  /** Return the figures of a service, oldest first: [{ts, cpu, rss, fds, threads}]. */
  history(name) {
    return this.measured.get(name) ?? [];
  }

  latest(name) {
    return this.measured.get(name)?.at(-1);
  }

  async #measure() {
    for (;;) {
      if (this.contact && !document.hidden) {
        try {
          await this.#sample();
        } catch { /* no figures this time */ }
      }
      await new Promise((done) => {
        this.#due = done;
        setTimeout(done, SAMPLE_S * 1000);
      });
    }
  }

  /** Measure soon, because other services have come into view. */
  hurry() {
    clearTimeout(this.#hurried);
    this.#hurried = setTimeout(() => this.#due(), HURRY_MS);
  }

  async #sample() {
    const names = this.services.size > ALL_BELOW ? this.inView() : null;
    if (names && !names.length) return;
    const query = names ? { services: names.slice(0, 100).join(",") } : {};
    const { services } = await get("v1/resources", query);
    for (const [name, figures] of Object.entries(services)) this.#keep(name, Date.parse(figures.ts) / 1000, figures);
    this.changed("figures");
  }

  #keep(name, at, figures) {
    let all = this.measured.get(name);
    if (!all) this.measured.set(name, all = []);
    const before = all.at(-1);
    if (before && at <= before.ts) return;
    // Another process counts from zero, and a gap in time tells nothing about the moments in it.
    const same = before && before.run === figures.run && at - before.ts < 4 * SAMPLE_S;
    const cpu = same ? Math.max(0, (figures.cpu_s - before.cpu_s) / (at - before.ts)) : null;
    all.push({ ts: at, run: figures.run, cpu_s: figures.cpu_s, cpu, rss: figures.rss_bytes,
      fds: figures.fds, threads: figures.threads });
    if (all.length > SAMPLES) all.shift();
  }
}

export const store = new Store();
