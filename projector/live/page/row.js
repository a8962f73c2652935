// One device in the list.

import { el, mark, say } from "./dom.js";
import { age, count, duration, moment, since } from "./format.js";
import { emptySpark, spark } from "./spark.js";
import { valued } from "./units.js";

const SAID = { silent: "Silent", offline: "Offline", rejected: "Rejected", ok: "Heard", unknown: "Not known yet", muted: "Muted", retired: "Retired", "never heard": "Never heard" };

export function makeRow() {
  return el(
    "div", { class: "row", role: "listitem" },
    el(
      "a", { tabindex: "-1" },
      el("span", { class: "state two" }, el("span", { class: "standing" }), el("span", { class: "why note" })),
      el("span", { class: "name two" }, el("span", { class: "who" }, el("span", { class: "id" }), el("span", { class: "called" })), el("span", { class: "region note" })),
      el("span", { class: "values" }),
      el("span", { class: "trend" }, emptySpark(), el("span", { class: "of note cut" })),
      el("span", { class: "seen two" }, el("span", { class: "age" }), el("span", { class: "usual note" })),
    ),
  );
}

/** Show a device, or that it is still asked for. `columns` are the metrics that have one, `beyond` those that are beyond a limit. */
export function fillRow(node, row, course, columns, nowMs, beyond = {}) {
  const link = node.firstChild;
  const [state, name, values, trend, seen] = link.children;
  const [id, called] = name.firstChild.children;
  mark(node, "data-standing", row?.standing ?? null);
  if (!row) {
    link.removeAttribute("href");
    for (const each of [...state.children, called, name.lastChild, values, trend.lastChild, ...seen.children]) say(each, "");
    say(id, "…");
    spark(trend.firstChild, []);
    return;
  }
  mark(link, "href", `#/device/${encodeURIComponent(row.id)}`);
  say(state.firstChild, SAID[row.standing]);
  say(state.lastChild, why(row, nowMs));
  mark(state, "title", row.care ?? sinceWhen(row, nowMs));
  say(id, row.id);
  say(called, row.name ?? "");
  mark(name.firstChild, "title", row.name === null ? null : `${row.id} ${row.name}`);
  say(name.lastChild, [row.blocked && "blocked", row.region, ...Object.values(row.labels), ...Object.values(row.tags), ...unseen(beyond, row.values)].filter(Boolean).join(" · "));
  fillValues(values, row.values, columns, beyond);
  spark(trend.firstChild, course?.means ?? []);
  say(trend.lastChild, course?.metric ?? "");
  const heard = row.standing !== "never heard";
  say(seen.firstChild, heard ? age(row.last_seen_ms, nowMs) : "never");
  mark(seen, "title", heard ? moment(row.last_seen_ms) : null);
  mark(seen, "data-clock", row.clock_wrong ? "" : null);
  mark(seen.lastChild, "title", row.clock_wrong ? `its clock is ${clockError(row.clock_error_s)}` : null);
  if (row.clock_wrong) say(seen.lastChild, `clock ${row.clock_error_s === null ? "wrong" : `${row.clock_error_s > 0 ? "+" : "−"}${duration(Math.abs(row.clock_error_s))}`}`);
  else say(seen.lastChild, row.expected_ms !== null ? `every ${duration(row.expected_ms / 1000)}` : row.usual_ms === null ? "" : `usually ${duration(row.usual_ms / 1000)}`);
}

/** For how long it is silent, how long it is muted still, or what was rejected. */
function why(row, nowMs) {
  if (row.standing === "silent") return row.heard_ms === null ? "" : ` ${duration(Math.round((nowMs - row.heard_ms) / 1000))}`;
  if (row.standing === "offline") return ` ${duration(Math.max(0, Math.round((nowMs - row.offline_since_ms) / 1000)))}`;
  if (row.standing === "muted") return row.until_ms === null ? "" : ` ${duration(Math.max(0, Math.round((row.until_ms - nowMs) / 1000)))} left`;
  return row.reason && row.standing === "rejected" ? ` ${count(row.rejected)} × ${row.reason}` : "";
}

/** Since when it is offline, as it said itself, or silent, as nothing came; nothing of any other. */
export function sinceWhen(row, nowMs) {
  if (row?.standing === "offline") return `Offline since ${since(row.offline_since_ms, nowMs)} (said so)`;
  if (row?.standing === "silent" && row.heard_ms !== null) return `Silent since ${since(row.heard_ms, nowMs)} (nothing heard)`;
  return null;
}

/** How a clock is wrong; a projector that has just begun may not know by how much. */
export function clockError(seconds) {
  return seconds === null ? "wrong" : `${duration(Math.abs(seconds))} ${seconds > 0 ? "ahead" : "behind"}`;
}

/** What is beyond a limit and has no value in the row. */
function unseen(beyond, values) {
  return Object.entries(beyond).filter(([metric]) => !Object.hasOwn(values, metric)).map(([metric, state]) => `${metric} ${state}`);
}

/** A value below each column; of a device that measures nothing of these what it has, with its names. */
function fillValues(box, values, columns, beyond) {
  const stated = (metric) => (Object.hasOwn(beyond, metric) ? `${valued(metric, values[metric])} ${beyond[metric]}` : valued(metric, values[metric]));
  const other = columns.every((metric) => !Object.hasOwn(values, metric));
  const cells = other ? [["", Object.keys(values).map((metric) => `${metric} ${stated(metric)}`).join(" · ")]] : columns.map((metric) => [metric, Object.hasOwn(values, metric) ? stated(metric) : ""]);
  mark(box, "data-other", other ? "" : null);
  while (box.children.length < cells.length) box.append(el("span", {}, el("span", { class: "unseen" }), el("span", { class: "cut" })));
  while (box.children.length > cells.length) box.lastChild.remove();
  cells.forEach(([metric, text], i) => {
    const [spoken, shown] = box.children[i].children;
    say(spoken, metric && text ? `${metric} ` : "");
    say(shown, text);
    mark(box.children[i], "data-beyond", text && Object.hasOwn(beyond, metric) ? beyond[metric] : null);
    mark(box.children[i], "title", text ? `${metric} ${text}`.trim() : null);
  });
}
