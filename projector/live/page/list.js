// The devices: as many rows as fit on the screen, of however many there are.
//
// The first rows come with the feed. What lies further down, what a search or a region leaves, another order and metrics
// that the feed does not bring are asked for piece by piece as they come into sight, and again every two seconds.

import { ask, patient, troubleOf } from "./ask.js";
import { byId, mark, own, say } from "./dom.js";
import { count, plural } from "./format.js";
import { fillRow, makeRow } from "./row.js";

const PIECE = 50;
const BROUGHT = 6; // of the most common metrics come with the feed
const OVERSCAN = 6;
const REFRESH_MS = 2000;

export class DeviceList {
  constructor(feed, columns) {
    this.feed = feed;
    this.columns = columns;
    this.box = byId("list");
    this.canvas = byId("rows");
    this.nodes = new Map(); // device, or index of one that is not known yet → element
    this.filter = { q: "", region: null, tag: null, clock: false, recent: false, hot: false, retired: false, never: false, sort: "" };
    this.trouble = null;
    this.unsaved = null; // what is wrong with the file
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
    return Boolean(this.filter.q || this.filter.region || this.filter.tag || this.filter.clock || this.filter.recent || this.filter.hot || this.filter.retired || this.filter.never || this.filter.offline);
  }

  /** Whether rows are asked for, and not those that come with the feed. */
  get apart() {
    return this.filtered || Boolean(this.filter.sort) || this.columns.wanted.some((metric) => !this.feed.state.metrics.slice(0, BROUGHT).includes(metric));
  }

  /**
   * Show only devices whose id or name has `q` in it, of one region, with one tag or label, null for all, with `clock` those
   * whose clock is wrong, with `recent` those that are silent, the last first, with `hot` those beyond a limit, with `retired`
   * those that are out of service, and with `never` those that never sent; by what `sort` says.
   */
  show(filter) {
    const changed = Object.keys(filter).filter((name) => filter[name] !== this.filter[name]);
    if (!changed.length) return;
    this.filter = filter;
    this.columns.sort = filter.sort;
    if (changed.every((name) => name === "sort")) this.renew();
    else this.forget();
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

  /** Ask again for all there is; until then it stays as it is. */
  renew() {
    this.asked?.abort();
    this.asked = null;
    for (const piece of this.pieces.values()) piece.at = -Infinity;
  }

  /** Draw what is in sight now. */
  draw() {
    const state = this.feed.state;
    if (!state || this.box.offsetParent === null) return;
    const total = this.totalOf(state);
    if (this.columns.fit(state.metrics, this.box.clientWidth)) this.renew();
    this.columns.draw();
    this.tell(state, total);
    const height = this.rowHeight();
    this.canvas.style.height = `${(total ?? 0) * height}px`;
    const first = Math.max(0, Math.floor(this.box.scrollTop / height) - OVERSCAN);
    const last = Math.min((total ?? PIECE) - 1, Math.ceil((this.box.scrollTop + this.box.clientHeight) / height) + OVERSCAN);
    const shown = new Map();
    for (let index = first; index <= last && total !== null; index += 1) {
      const found = this.at(state, index);
      shown.set(found?.row && !shown.has(found.row.id) ? found.row.id : index, { index, ...found });
    }
    const held = document.activeElement?.closest("#rows .row");
    this.place(shown);
    for (const [key, { index, row, spark, beyond }] of shown) {
      const node = this.nodes.get(key);
      node.dataset.index = index;
      node.style.transform = `translateY(${index * height}px)`;
      mark(node, "aria-setsize", total);
      mark(node, "aria-posinset", index + 1);
      fillRow(node, row, spark, this.columns.shown, this.feed.viewsNow(), beyond);
    }
    this.hold(held);
    this.grant();
    this.ask(state, first, last);
  }

  /** How many rows there are; null while nobody knows. */
  totalOf(state) {
    return this.filtered ? this.matching : state.views_at_ms === null ? null : state.devices.watched;
  }

  /** A device keeps its element wherever it goes, so that whoever is about to follow it does not get to another. */
  place(shown) {
    for (const [key, node] of this.nodes) if (!shown.has(key)) node.remove();
    let place = this.canvas.firstElementChild;
    const nodes = new Map();
    for (const key of shown.keys()) {
      const node = this.nodes.get(key) ?? makeRow();
      nodes.set(key, node);
      if (node === place) place = place.nextElementSibling;
      else this.canvas.insertBefore(node, place);
    }
    this.nodes = nodes;
  }

  /** The focus stays with its device; when that is out of sight, with its place. */
  hold(row) {
    if (!row) return;
    if (row.isConnected) this.focused = Number(row.dataset.index);
    if (!row.contains(document.activeElement)) this.linkAt(this.focused)?.focus({ preventScroll: true });
  }

  linkAt(index) {
    return this.canvas.querySelector(`[data-index="${index}"] a[href]`);
  }

  /** Focus the row that was wanted, as soon as it is there. */
  grant() {
    const link = this.linkAt(this.wanted);
    if (!link) return;
    this.wanted = null;
    link.focus({ preventScroll: true });
  }

  at(state, index) {
    if (!this.apart && index < state.devices.order.length) {
      const id = state.devices.order[index];
      return { row: own(state.rows, id), spark: own(state.sparks, id), beyond: own(state.beyond, id) };
    }
    const piece = this.pieces.get(index - (index % PIECE));
    const row = piece?.rows[index % PIECE];
    if (row || this.filtered || piece) return row && { row, spark: own(piece.sparks, row.id), beyond: own(piece.beyond, row.id) };
    const before = own(state.rows, state.devices.order[index]); // until the first answer
    return before && { row: before, spark: own(state.sparks, before.id), beyond: own(state.beyond, before.id) };
  }

  /** Ask for the oldest of the pieces in sight that are due. */
  ask(state, first, last) {
    const { order, watched } = state.devices;
    if (this.asked || (!this.apart && order.length >= watched)) return;
    const now = performance.now();
    const known = this.apart ? 0 : order.length;
    let oldest = null;
    for (let start = first - (first % PIECE); start <= Math.max(first, last); start += PIECE) {
      const at = this.pieces.get(start)?.at ?? -Infinity;
      if (start + PIECE > known && now - at > REFRESH_MS && (!oldest || at < oldest.at)) oldest = { start, at };
    }
    if (oldest) this.fetch(oldest.start);
  }

  async fetch(start) {
    const asked = (this.asked = new AbortController());
    try {
      const found = await this.read(this.choice(), start, PIECE, patient(asked.signal));
      if (asked.signal.aborted) return;
      this.pieces.set(start, { ...found, at: performance.now() });
      this.matching = found.total;
      this.trouble = null;
      for (const [other, piece] of this.pieces) if (performance.now() - piece.at > 30 * REFRESH_MS) this.pieces.delete(other);
    } catch (error) {
      const trouble = troubleOf(error);
      if (asked.signal.aborted || !trouble) return; // nobody is there: the next frame asks again
      this.trouble = trouble;
      this.pieces.set(start, { ...(this.pieces.get(start) ?? { rows: [], sparks: {} }), at: performance.now() });
    } finally {
      if (this.asked === asked) this.asked = null;
    }
    this.draw();
  }

  /** Which devices are listed now, in what order and with which metrics: all the columns that were chosen. */
  choice() {
    return { ...this.filter, metrics: this.columns.chosen ?? this.columns.shown };
  }

  /** Some of the devices of a choice. */
  read({ q, region, tag, clock, recent, hot, retired, never, offline, sort, metrics }, start, many, signal) {
    const query = new URLSearchParams({ start, count: many });
    for (const [name, value] of Object.entries({ q, region, tag, sort, clock: clock && "true", recent: recent && "true", hot: hot && "true", retired: retired && "true", never_heard: never && "true", offline: offline && "true" })) if (value) query.set(name, value);
    for (const metric of metrics) query.append("metric", metric);
    return ask(`live/devices?${query}`, signal);
  }

  tell(state, total) {
    const { watched, total: all } = state.devices;
    const scope = watched < all ? `${count(watched)} of ${count(all)} devices so far` : plural(all, "device", "devices");
    const parts = [];
    if (this.filter.q) parts.push(`with “${this.filter.q}”`);
    if (this.filter.region) parts.push(`in ${this.filter.region}`);
    if (this.filter.tag) parts.push(`tagged ${this.filter.tag}`);
    if (this.filter.clock) parts.push("whose clock is wrong");
    if (this.filter.retired) parts.push("retired");
    if (this.filter.never) parts.push("never heard");
    if (this.filter.offline) parts.push("that said they are offline");
    if (this.filter.recent) parts.push("that fell silent, the last first");
    if (this.filter.hot) parts.push("beyond a limit");
    byId("silent-last").hidden = !state.devices.silent || this.filter.recent;
    const { clocks_wrong: clocks, retired, never_heard: never, offline } = state.devices;
    byId("offline").hidden = !offline || this.filter.offline;
    say(byId("offline"), `${count(offline)} offline`);
    byId("clocks-wrong").hidden = !clocks || this.filter.clock;
    say(byId("clocks-wrong"), plural(clocks, "clock is wrong", "clocks are wrong"));
    byId("retired").hidden = !retired || this.filter.retired;
    say(byId("retired"), `${count(retired)} retired`);
    byId("never-heard").hidden = !never || this.filter.never;
    say(byId("never-heard"), `${count(never)} never heard`);
    if (total === null && !this.filtered) say(byId("devices-note"), "");
    else say(byId("devices-note"), this.filtered ? `${total === null ? "looking" : count(total)} ${parts.join(" ")}, of ${scope}` : `${scope}${this.filter.sort ? "" : ", what needs attention first"}`);
    const trouble = this.unsaved ?? (Object.keys(state.problems).length ? null : this.trouble); // problems are above already
    byId("list-trouble").hidden = !trouble;
    say(byId("list-trouble"), trouble ?? "");
    byId("filter-off").hidden = !this.filtered;
    const empty = byId("list-empty");
    byId("columns").hidden = total === 0;
    empty.hidden = total !== 0;
    say(empty, this.filtered ? "No device matches." : "No device has been heard yet.");
  }

  rowHeight() {
    if (this.nodes.size) this.height = this.nodes.values().next().value.offsetHeight || this.height;
    return this.height || 52;
  }

  walk(event) {
    const page = Math.max(1, Math.floor(this.box.clientHeight / this.rowHeight()) - 1);
    const total = this.feed.state && this.totalOf(this.feed.state);
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
