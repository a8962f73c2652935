// Numbers and times as people read them.

const integer = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

const DIGITS = 15; // as many as any decimal number keeps

/** A value as it was sent, but for the dust of binary fractions; one that was worked out to fewer digits after the point. */
export function number(value, digits = DIGITS) {
  if (typeof value !== "number") return String(value);
  const before = value ? Math.floor(Math.log10(Math.abs(value))) + 1 : 1;
  const rounded = Number.isInteger(value) ? value : Number(value.toPrecision(Math.min(DIGITS, Math.max(digits, before))));
  const size = Math.abs(rounded);
  if (size >= 1e15 || (size && size < 1e-6)) return String(rounded);
  return rounded.toLocaleString("en", { maximumSignificantDigits: DIGITS, useGrouping: size >= 10000 });
}

export const count = (value) => integer.format(value);

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** How many, with few digits where there are many: `9,876`, `12.3 K`, `1.2 M`. */
export const amount = (value) => (value < 10_000 ? count(value) : compact.format(value).replace(/(?=[A-Z]$)/, " "));

export function plural(value, one, many) {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** How fast, a second or, when it is less than one, a minute: `38/s`, `12/min`; `–` before it is known. */
export function rate(perSecond) {
  if (perSecond === null) return "–";
  if (perSecond >= 1) return `${perSecond >= 10 ? count(Math.round(perSecond)) : Number(perSecond.toFixed(1))}/s`;
  const perMinute = Math.round(perSecond * 60);
  return perSecond > 0 && !perMinute ? "< 1/min" : `${perMinute}/min`;
}

/** A duration in its one or two greatest units: `0.3 s`, `12 s`, `5 min`, `3 h 20 min`, `4 d`. */
export function duration(seconds) {
  const sign = seconds < 0 ? "−" : "";
  const s = Math.abs(seconds);
  if (s === 0) return "0 s";
  if (s < 0.0005) return "< 1 ms";
  if (s < 0.9995) return `${sign}${Math.round(s * 1000)} ms`;
  if (s < 9.95) return `${sign}${Number(s.toFixed(1))} s`;
  if (Math.round(s) === 60) return `${sign}1 min`;
  if (s < 119.5) return `${sign}${Math.round(s)} s`;
  const minutes = Math.floor(s / 60);
  if (minutes < 120) return `${sign}${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 10) return minutes % 60 ? `${sign}${hours} h ${minutes % 60} min` : `${sign}${hours} h`;
  if (hours < 48) return `${sign}${hours} h`;
  return `${sign}${Math.floor(hours / 24)} d`;
}

const READ_LATER_S = 5; // what is shown may have been read a moment after the time that it is shown by

/** How long ago, or ahead, a moment is; whole seconds, so that it does not flicker. */
export function age(ms, nowMs) {
  const seconds = Math.round((nowMs - ms) / 1000);
  if (seconds < -READ_LATER_S) return `${duration(-seconds)} ahead`;
  return seconds < 1 ? "now" : seconds < 10 ? `${seconds} s ago` : `${duration(seconds)} ago`;
}

const CLOCK = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
const MOMENT = { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" };

/** The time zone of this browser. */
export const HERE = new Intl.DateTimeFormat().resolvedOptions().timeZone;

let zone = HERE;
let clockFormat = timeFormat(CLOCK);
let momentFormat = timeFormat(MOMENT);

/** Show times in a zone from now on. */
export function useZone(name) {
  zone = name;
  clockFormat = timeFormat(CLOCK);
  momentFormat = timeFormat(MOMENT);
}

/** A format of times in the zone that is shown. */
export function timeFormat(options) {
  return new Intl.DateTimeFormat([], { ...options, timeZone: zone });
}

/** Time of day. */
export const clock = (ms) => clockFormat.format(ms);

/** When something began: the time of day, and the date too when that was long ago. */
export const since = (ms, nowMs) => (nowMs - ms < 12 * 3600 * 1000 ? timeFormat({ hour: "2-digit", minute: "2-digit", hourCycle: "h23" }) : momentFormat).format(ms);

/** Date and time of day. */
export const moment = (ms) => momentFormat.format(ms);
