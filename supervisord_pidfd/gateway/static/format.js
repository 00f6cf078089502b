// Write lengths, moments and amounts as the command line does.

const UNITS = [["w", 604800], ["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];

/** Write a length in at most two units: `3s`, `12m 12s`, `3d 04h`. */
export function age(seconds) {
  const left = Math.max(0, Math.floor(seconds));
  for (let i = 0; i < UNITS.length - 1; i++) {
    const [unit, size] = UNITS[i];
    if (left < size) continue;
    const [below, smaller] = UNITS[i + 1];
    const rest = Math.floor((left % size) / smaller);
    return `${Math.floor(left / size)}${unit}` + (rest ? ` ${String(rest).padStart(2, "0")}${below}` : "");
  }
  return `${left}s`;
}

/** Write a length in its largest unit alone. */
export function rough(seconds) {
  const left = Math.max(0, Math.floor(seconds));
  for (const [unit, size] of UNITS) if (left >= size) return `${Math.floor(left / size)}${unit}`;
  return "0s";
}

/** Write a length with a tenth of a second, or in milliseconds, where that matters. */
export function length(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 0.995) return `${Math.round(seconds * 1000)}ms`;
  return seconds < 9.95 ? `${seconds.toFixed(1)}s` : age(seconds);
}

/** Write what is left of a wait, rounded up so that it never says 0 while there is some. */
export const left = (seconds) =>
  seconds <= 0 ? "now" : `in ${seconds < 1 ? `${Math.ceil(seconds * 10) / 10}s` : age(Math.ceil(seconds))}`;

const pad = (number) => String(number).padStart(2, "0");

/** Write the local time of day. */
export function clock(moment) {
  const at = new Date(moment);
  return `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
}

/** Write a local date and time; without the date if it is today. */
export function when(moment) {
  if (!moment) return "–";
  const at = new Date(moment);
  if (at.toDateString() === new Date().toDateString()) return clock(at);
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} ${clock(at)}`;
}

/** Return how many seconds ago a moment was, by a clock that may be wrong by `skew` seconds. */
export const since = (moment, skew = 0) => Date.now() / 1000 - skew - Date.parse(moment) / 1000;

/** Write an amount of memory. */
export function bytes(amount) {
  if (amount === null || amount === undefined) return "–";
  const units = ["B", "KB", "MB", "GB", "TB"];
  let at = 0;
  let value = amount;
  while (value >= 999.5 && at < units.length - 1) {
    value /= 1000;
    at++;
  }
  return `${at > 0 && value < 9.95 ? value.toFixed(1) : Math.round(value)} ${units[at]}`;
}

/** Write a share of one CPU. */
export function percent(share) {
  if (share === null || share === undefined) return "–";
  const value = share * 100;
  return `${value < 9.95 ? value.toFixed(1) : Math.round(value)}%`;
}

/** Write a number with its noun: `1 restart`, `12,000 restarts`. */
export const count = (number, noun) =>
  `${number.toLocaleString("en-US")} ${noun}${number === 1 ? "" : "s"}`;

const AGO = /((?:\d+[wdhms] ?)+)(?=ago\b|after\b)/g;
const LASTING = /, ((?:\d+[wdhms] ?)+)(?=$|: )/g;
const AHEAD = /\bin ((?:\d+(?:\.\d+)?[wdhms] ?)+)/g;

function seconds(text) {
  let sum = 0;
  for (const [, number, unit] of text.matchAll(/(\d+(?:\.\d+)?)([wdhms])/g)) {
    sum += Number(number) * UNITS.find(([name]) => name === unit)[1];
  }
  return sum;
}

/** Let the lengths in a text of the supervisor's go on, `passed` seconds after it was written. */
export function aged(text, passed) {
  if (passed < 1 || !text) return text;
  return text
    .replace(AGO, (found) => `${rough(seconds(found) + passed)} `)
    .replace(LASTING, (_, found) => `, ${rough(seconds(found) + passed)}`)
    .replace(AHEAD, (_, found) => `in ${rough(Math.max(0, Math.ceil(seconds(found) - passed)))}`);
}

/** Say what a service is at, now. */
export function detail(service, skew = 0) {
  if (service.failing && service.phase === "running") return service.failing;
  const text = service.detail ?? "";
  if (service.phase === "backoff" && service.next_start_at) {
    const tries = service.limit ? `try ${service.attempt} of ${service.limit}` : `try ${service.attempt}`;
    return `${service.exit ?? "ended"}; ${tries} ${left(-since(service.next_start_at, skew))}`;
  }
  if (service.status_text && text === service.status_text) return text;
  return aged(text, service.at ? since(service.at, skew) : 0);
}
