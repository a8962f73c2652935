// What is beside the devices: the four figures, the regions, what was rejected, and the path with its lags.

import { byId, el, keyed, mark, say } from "./dom.js";
import { age, amount, count, duration, plural, rate } from "./format.js";
import { emptySpark, spark } from "./spark.js";

const BEHIND_WARN_S = 2;
const BEHIND_ALARM_S = 30;
const MANY = 0.1; // of the devices
const REASONS = 2;
const NOTED_MS = 60_000; // what was said longer ago may have changed
const STEPS = { received: "to gateway", committed: "to store", published: "to topic", projected: "to view" };

export function drawOverview(state, nowMs) {
  drawSummary(state);
  drawHot(state.hot);
  drawRegions(state.regions, state.regions_total, state.regions_dropped, state.views_at_ms !== null);
  drawLetters(state.letters, nowMs, state.letters_at_ms !== null);
  drawStreams(state.streams, !("postgres" in state.problems), nowMs);
}

function drawSummary({ devices, streams, letters, rates, problems, views_at_ms: seen, letters_at_ms: read }) {
  if (seen === null) figure("silent", "–", "", null);
  else if (devices.silent === null) figure("silent", "?", "not known yet", "warn");
  else figure("silent", count(devices.silent), `of ${count(devices.total)}${devices.offline ? `, ${count(devices.offline)} offline` : ""}${devices.muted ? `, ${count(devices.muted)} muted` : ""}${devices.unknown ? `, ${count(devices.unknown)} not known yet` : ""}`, devices.silent ? "alarm" : devices.unknown > MANY * devices.total ? "warn" : "ok");
  const behindS = Math.max(0, ...streams.map((stream) => stream.behind_s));
  const behindRows = streams.reduce((sum, stream) => sum + stream.behind_rows, 0);
  const atSite = streams.reduce((sum, stream) => sum + (stream.at_site?.messages ?? 0), 0);
  const away = "postgres" in problems;
  const unknown = !streams.length || away;
  const level = behindS >= BEHIND_ALARM_S ? "alarm" : behindS >= BEHIND_WARN_S ? "warn" : "ok";
  figure("behind", unknown ? "?" : behindRows && behindS < 1 ? "< 1 s" : duration(Math.round(behindS)), unknown ? "not known now" : atSite ? `and ${amount(atSite)} at the site` : behindRows ? plural(behindRows, "batch", "batches") : "up to date", unknown || (atSite && level === "ok") ? "warn" : level);
  const reasons = Object.entries(letters.reasons).map(([reason, many]) => `${reason} ${many}`);
  if (away || read === null) figure("rejected", "?", "not known now", "warn");
  else figure("rejected", `${count(letters.minute)}${letters.more ? "+" : ""}`, reasons.length ? reasons[0] : "nothing", letters.minute ? "warn" : "ok");
  const sum = byId("sum-rate");
  figure("rate", rate(rates.per_s), null, rates.per_s ? "ok" : null); // a quiet plant is not a broken one
  say(sum.querySelector(".label"), `Messages, last ${rates.per_s === null || rates.span_s > 59 ? "minute" : `${Math.round(rates.span_s)} s`}`);
  const note = sum.querySelector(".note");
  if (!note.firstChild) note.append(emptySpark());
  spark(note.firstChild, rates.series);
}

/** There is such a figure only where somebody has set limits. */
function drawHot(hot) {
  byId("sum-hot").hidden = !hot;
  if (!hot) return;
  if (hot.devices === null) figure("hot", "?", "not known yet", "warn");
  else figure("hot", count(hot.devices), hot.crit ? `${plural(hot.crit, "reading", "readings")} critical` : hot.devices ? "none critical" : "no device", hot.crit ? "alarm" : hot.devices ? "warn" : "ok");
}

function figure(name, text, note, level) {
  const box = byId(`sum-${name}`);
  say(box.querySelector("strong"), text);
  if (note !== null) say(box.querySelector(".note"), note);
  mark(box, "data-level", level);
}

function drawRegions(regions, total, dropped, known) {
  const gone = dropped ? `, ${count(dropped)} empty ones dropped` : "";
  say(byId("regions-note"), `${total > regions.length ? `the ${regions.length} busiest of ${count(total)}` : "busiest first"}${gone}`);
  rows("region-rows", known, regions, (each) => each.region, makeRegion, (node, each) => {
    const [bar, name, note, speed] = node.firstChild.children;
    bar.style.width = `${Math.round(each.share * 100)}%`;
    say(name, each.region);
    note.className = each.silent ? "silent" : "note";
    say(note, each.silent ? `${count(each.silent)} of ${amount(each.devices)} silent` : plural(each.devices, "device", "devices"));
    say(speed, rate(each.per_s));
  });
}

function makeRegion(each) {
  const href = `#/?region=${encodeURIComponent(each.region)}`;
  return el(
    "li", {},
    el("a", { href }, el("span", { class: "bar" }), el("span", { class: "cut" }), el("span", { class: "note" }), el("span", { class: "rate" })),
  );
}

function drawLetters(letters, nowMs, known) {
  const reasons = Object.entries(letters.reasons).map(([reason, many]) => `${reason} ${many}`);
  const rest = reasons.length > REASONS ? `, ${plural(reasons.length - REASONS, "more reason", "more reasons")}` : "";
  say(byId("rejected-note"), reasons.slice(0, REASONS).join(", ") + rest);
  keyed(byId("constant-keys"), letters.constant_keys, (each) => each.device, makeConstantKey, updateConstantKey);
  rows("letter-rows", known, letters.newest, (each) => each.id, makeLetter, (node, each) => updateLetter(node, each, nowMs));
}

function makeConstantKey(each) {
  return el(
    "li", {},
    el("a", { href: `#/device/${encodeURIComponent(each.device)}` }, each.device), " names one key in all its messages, ", el("code"),
    ". If it never changes it is none: put ", el("code", {}, 'key = ""'), " on the route of ", el("code"), ", then ",
    el("code", {}, `gateway dead-letters replay --reason conflict --device ${quoted(each.device)}`),
  );
}

/** As a shell takes it for one word, whatever a device calls itself. */
const quoted = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`);

function updateConstantKey(node, each) {
  const [key, , topic] = node.querySelectorAll("code");
  say(key, each.key);
  say(topic, each.topic);
}

/** A dead letter as an item of a list. */
export function makeLetter(letter) {
  const source = letter.device
    ? el("a", { class: "cut", href: `#/device/${encodeURIComponent(letter.device)}` }, letter.device)
    : el("span", { class: "cut" }, letter.topic);
  return el(
    "li", {},
    el(
      "div", { class: "letter-top" },
      el("span", { class: "reason" }, letter.reason),
      source,
      el("time", { datetime: new Date(letter.at_ms).toISOString(), title: `dead letter ${letter.id}` }),
    ),
    el("div", { class: "letter-error", title: `${letter.topic}: ${letter.error}` }, letter.error),
  );
}

/** Its age, and whether it was replayed meanwhile. */
export function updateLetter(node, letter, nowMs) {
  say(node.querySelector("time"), `${letter.replayed ? "replayed, " : ""}${age(letter.at_ms, nowMs)}`);
}

function drawStreams(streams, known, nowMs) {
  rows("stream-rows", known, streams, (each) => each.stream, makeStream, (node, each) => {
    const [name, speed] = node.firstChild.children;
    say(name, `Stream ${each.stream}, ${rate(each.per_s)}`);
    say(speed, each.behind_rows ? `${plural(each.behind_rows, "batch", "batches")}, ${duration(each.behind_s)} behind` : "up to date");
    const left = node.children[1];
    left.hidden = !each.at_site;
    if (each.at_site) say(left, atSite(each.at_site, nowMs));
    const worst = Math.max(...Object.values(each.lag_s ?? {}).map((seconds) => seconds ?? 0));
    for (const step of node.lastChild.children) {
      const seconds = each.lag_s?.[step.dataset.step] ?? null;
      mark(step, "data-worst", seconds !== null && seconds === worst ? "" : null);
      say(step.lastChild, seconds === null ? "–" : duration(seconds));
    }
  });
}

/** What a gateway has on its own disk, as it said last. */
function atSite({ messages, oldest_ms: oldestMs, drains_in_s: drainsInS, noted_ms: notedMs }, nowMs) {
  const old = nowMs - notedMs > NOTED_MS;
  const parts = [`at the site: ${amount(messages)} ${messages === 1 ? "message" : "messages"}`];
  if (oldestMs !== null) parts.push(`oldest ${duration(Math.max(0, Math.round((nowMs - oldestMs) / 1000)))}`);
  if (old) parts.push(`as of ${age(notedMs, nowMs)}`);
  else if (drainsInS !== null) parts.push(`drains in about ${duration(Math.max(1, Math.round(drainsInS)))}`);
  return parts.join(", ");
}

function makeStream() {
  const steps = Object.entries(STEPS).map(([step, label]) => el("div", { "data-step": step }, el("dt", {}, label), el("dd")));
  return el("li", {}, el("div", { class: "stream-top" }, el("span"), el("span", { class: "note" })), el("p", { class: "at-site" }), el("dl", { class: "steps" }, ...steps));
}

/** Items of a list; that there are none is said only when that is known. */
function rows(id, known, items, key, make, update) {
  const list = byId(id);
  keyed(list, items, key, make, update);
  list.parentElement.querySelector(".empty").hidden = items.length > 0 || !known;
}
