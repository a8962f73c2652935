// The devices: as many rows as fit on the screen, of however many there are.
//
// The first rows come with the feed. What lies further down, and what a search or a region leaves, is asked for piece by
// piece as it comes into sight, and again every two seconds while it stays there.

import { byId, el, mark, say } from "./dom.js";
import { age, count, duration, number, plural } from "./format.js";
import { emptySpark, spark } from "./spark.js";

const PIECE = 50;
const OVERSCAN = 6;
const REFRESH_MS = 2000;
const PATIENCE_MS = 10000;
const SAID = { silent: "Silent", rejected: "Rejected", ok: "Heard" };

export class DeviceList {
  constructor(feed) {
    this.feed = feed;
    this.box = byId("list");
    this.canvas = byId("rows");
    this.nodes = new Map(); // index → element
    this.filter = { q: "", region: null, tag: null, ahead: false };
    this.forget();
    this.focused = 0;
    this.box.addEventListener("scroll", () => this.draw(), { passive: true });
    this.box.addEventListener("keydown", (event) => this.walk(event));
    this.box.addEventListener("focus", (event) => {
      if (!this.box.contains(event.relatedTarget)) this.focus(this.focused); // else on the way out, backwards
    });
    this.box.addEventListener("focusin", (event) => {
      const row = event.target.closest(".row");
      if (row) this.focused = Number(row.dataset.index);
    });
    new ResizeObserver(() => this.draw()).observe(this.box);
  }

  get filtered() {
    return Boolean(this.filter.q || this.filter.region || this.filter.tag || this.filter.ahead);
  }

  /** Show only devices whose id has `q` in it, of one region, with one tag, null for all, and with `ahead` those whose clock is. */
  show(filter) {
    if (Object.entries(filter).every(([name, value]) => value === this.filter[name])) return;
    this.filter = filter;
    this.forget();
    this.focused = 0;
    this.box.scrollTop = 0;
    this.draw();
  }

  forget() {
    this.asked?.abort();
    this.asked = null;
    this.pieces = new Map(); // start → {rows, sparks, at}
    this.matching = null;
    this.wanted = null;
  }

  /** Draw what is in sight now. */
  draw() {
    const state = this.feed.state;
    if (!state || this.box.offsetParent === null) return;
    const total = this.filtered ? this.matching : state.devices.watched;
    this.tell(state, total);
    const height = this.rowHeight();
    this.canvas.style.height = `${(total ?? 0) * height}px`;
    const first = Math.max(0, Math.floor(this.box.scrollTop / height) - OVERSCAN);
    const last = Math.min((total ?? PIECE) - 1, Math.ceil((this.box.scrollTop + this.box.clientHeight) / height) + OVERSCAN);
    const drawn = new Map();
    for (let index = first; index <= last && total !== null; index += 1) {
      const found = this.at(state, index);
      const node = this.nodes.get(index) ?? makeRow();
      drawn.set(index, node);
      node.dataset.index = index;
      node.style.transform = `translateY(${index * height}px)`;
      mark(node, "aria-setsize", total);
      mark(node, "aria-posinset", index + 1);
      fillRow(node, found?.row, found?.spark, this.feed.now());
      if (!node.isConnected) this.canvas.append(node);
    }
    for (const [index, node] of this.nodes) if (drawn.get(index) !== node) node.remove();
    this.nodes = drawn;
    this.grant();
    this.ask(state, first, last);
  }

  /** Focus the row that was wanted, as soon as it is there. */
  grant() {
    const link = this.nodes.get(this.wanted)?.querySelector("a[href]");
    if (!link) return;
    this.wanted = null;
    link.focus({ preventScroll: true });
  }

  at(state, index) {
    if (!this.filtered && index < state.devices.order.length) {
      const id = state.devices.order[index];
      return { row: state.rows[id], spark: state.sparks[id] };
    }
    const piece = this.pieces.get(index - (index % PIECE));
    const row = piece?.rows[index % PIECE];
    return row && { row, spark: piece.sparks[row.id] };
  }

  /** Ask for the oldest of the pieces in sight that are due. */
  ask(state, first, last) {
    const { order, watched } = state.devices;
    if (this.asked || (!this.filtered && order.length >= watched)) return;
    const now = performance.now();
    const known = this.filtered ? 0 : order.length;
    let oldest = null;
    for (let start = first - (first % PIECE); start <= Math.max(first, last); start += PIECE) {
      const at = this.pieces.get(start)?.at ?? -Infinity;
      if (start + PIECE > known && now - at > REFRESH_MS && (!oldest || at < oldest.at)) oldest = { start, at };
    }
    if (oldest) this.fetch(oldest.start);
  }

  async fetch(start) {
    const asked = (this.asked = new AbortController());
    const query = new URLSearchParams({ start, count: PIECE });
    if (this.filter.q) query.set("q", this.filter.q);
    if (this.filter.region) query.set("region", this.filter.region);
    if (this.filter.tag) query.set("tag", this.filter.tag);
    if (this.filter.ahead) query.set("ahead", "true");
    try {
      const answer = await fetch(`live/devices?${query}`, { signal: AbortSignal.any([asked.signal, AbortSignal.timeout(PATIENCE_MS)]) });
      const found = answer.ok ? await answer.json() : (this.pieces.get(start) ?? { rows: [], sparks: {} });
      if (asked.signal.aborted) return;
      this.pieces.set(start, { ...found, at: performance.now() });
      if (answer.ok) this.matching = found.total;
      for (const [other, piece] of this.pieces) if (performance.now() - piece.at > 30 * REFRESH_MS) this.pieces.delete(other);
    } catch {
      return; // away: the connection says so, and the next frame asks again
    } finally {
      if (this.asked === asked) this.asked = null;
    }
    this.draw();
  }

  tell(state, total) {
    const { watched, total: all } = state.devices;
    const scope = watched < all && !this.filter.ahead ? `the ${count(watched)} longest silent of ${count(all)}` : plural(all, "device", "devices");
    const parts = [];
    if (this.filter.q) parts.push(`with “${this.filter.q}”`);
    if (this.filter.region) parts.push(`in ${this.filter.region}`);
    if (this.filter.tag) parts.push(`tagged ${this.filter.tag}`);
    if (this.filter.ahead) parts.push("whose clock is ahead");
    const ahead = byId("clocks-ahead");
    ahead.hidden = !state.devices.ahead || this.filter.ahead;
    say(ahead, plural(state.devices.ahead, "clock is ahead", "clocks are ahead"));
    say(byId("devices-note"), this.filtered ? `${total === null ? "looking" : count(total)} ${parts.join(" ")}, of ${scope}` : `${scope}, what needs attention first`);
    byId("filter-off").hidden = !this.filtered;
    const empty = byId("list-empty");
    empty.hidden = total !== 0;
    say(empty, this.filtered ? "No device matches." : "No device has been heard yet.");
  }

  rowHeight() {
    if (this.nodes.size) this.height = this.nodes.values().next().value.offsetHeight || this.height;
    return this.height || 52;
  }

  walk(event) {
    const page = Math.max(1, Math.floor(this.box.clientHeight / this.rowHeight()) - 1);
    const total = this.filtered ? this.matching : this.feed.state?.devices.watched;
    const to = { ArrowDown: this.focused + 1, ArrowUp: this.focused - 1, PageDown: this.focused + page, PageUp: this.focused - page, Home: 0, End: total - 1 }[event.key];
    if (to === undefined || !total || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    this.focus(Math.max(0, Math.min(total - 1, to)));
  }

  focus(index) {
    const height = this.rowHeight();
    const top = index * height;
    if (top < this.box.scrollTop) this.box.scrollTop = top;
    else if (top + height > this.box.scrollTop + this.box.clientHeight) this.box.scrollTop = top + height - this.box.clientHeight;
    this.focused = index;
    this.draw();
    this.wanted = index;
    this.grant();
  }
}

function makeRow() {
  return el(
    "div", { class: "row", role: "listitem" },
    el(
      "a", { tabindex: "-1" },
      el("span", { class: "state" }, el("span", { class: "standing" }), el("span", { class: "why note cut" })),
      el("span", { class: "name two" }, el("span", { class: "id" }), el("span", { class: "region note" })),
      el("span", { class: "values two note" }, el("span"), el("span")),
      el("span", { class: "trend" }, emptySpark(), el("span", { class: "of note cut" })),
      el("span", { class: "seen two" }, el("span", { class: "age" }), el("span", { class: "usual note" })),
    ),
  );
}

function fillRow(node, row, course, nowMs) {
  const link = node.firstChild;
  const [state, name, readings, trend, seen] = link.children;
  mark(node, "data-standing", row?.standing ?? null);
  if (!row) {
    link.removeAttribute("href");
    for (const each of [...state.children, ...name.children, ...readings.children, trend.lastChild, ...seen.children]) say(each, "");
    say(name.firstChild, "…");
    spark(trend.firstChild, []);
    return;
  }
  mark(link, "href", `#/device/${encodeURIComponent(row.id)}`);
  say(state.firstChild, row.standing === "silent" ? `Silent ${duration(Math.round((nowMs - row.last_seen_ms) / 1000))}` : SAID[row.standing]);
  say(state.lastChild, row.standing === "rejected" ? row.reason : "");
  say(name.firstChild, row.id);
  say(name.lastChild, [row.region, ...Object.values(row.tags)].filter(Boolean).join(" · "));
  const texts = Object.entries(row.values).map(([metric, value]) => `${metric} ${number(value)}`);
  say(readings.firstChild, texts.slice(0, 2).join(" · "));
  say(readings.lastChild, row.reason ? `${count(row.rejected)} rejected: ${row.reason}` : texts.slice(2).join(" · "));
  spark(trend.firstChild, course?.means ?? []);
  say(trend.lastChild, course ? `${course.metric}, last hour` : "");
  say(seen.firstChild, age(row.last_seen_ms, nowMs));
  mark(seen, "data-ahead", row.ahead_ms === null ? null : "");
  if (row.ahead_ms !== null) say(seen.lastChild, `clock ${duration(row.ahead_ms / 1000)} ahead`);
  else say(seen.lastChild, row.usual_ms === null ? "" : `usually ${duration(row.usual_ms / 1000)}`);
}
