// The course of one metric of a device: mean as a line, lowest to highest as a band, from the rollups.

import { patient, troubleOf } from "./ask.js";
import { save, stamp } from "./csv.js";
import { el, mark, say, svg } from "./dom.js";
import { duration, moment, number, plural, timeFormat } from "./format.js";
import { RANGES, extremesOf, historyOf } from "./history.js";
import { unitOf, valued } from "./units.js";

const REFRESH_MS = 15000;
const HEIGHT = 272;
const LEFT = 56;
const BOTTOM = 24;
const TOP = 10;
const RIGHT = 12;

export class Chart {
  constructor(feed, device) {
    this.feed = feed;
    this.device = device;
    this.range = "1 h";
    this.metric = null;
    this.at = -Infinity;
    this.trouble = null;
    this.pointed = null; // time of the point that is read
    this.select = el("select", { "aria-label": "Metric", onchange: () => this.choose(this.select.value, this.range) });
    this.ranges = Object.keys(RANGES).map((name) =>
      el("button", { type: "button", onclick: () => this.choose(this.metric, name) }, name));
    this.file = el("button", { type: "button", title: "Save the points of the chart as a file", onclick: () => this.save() }, "CSV");
    const point = (event) => this.point(event);
    this.picture = svg("svg", {
      class: "chart", role: "img", tabindex: "0", onpointermove: point, onpointerdown: point,
      onpointerleave: ({ pointerType }) => pointerType === "touch" || this.show(null), // a finger leaves when it is lifted
      onkeydown: (event) => this.walk(event), onblur: () => this.show(null),
    });
    this.readout = el("p", { class: "note", id: "chart-readout", "aria-live": "polite" });
    this.box = el(
      "section", { "aria-label": "History", hidden: true },
      el("div", { class: "head" }, el("h3", {}, "History"), this.select, el("div", { class: "choices", role: "group", "aria-label": "How far back" }, ...this.ranges), this.file),
      this.picture, this.readout,
    );
    new ResizeObserver(() => this.draw()).observe(this.box);
  }

  /** Take note of what the device measures; ask for the history when it is time. */
  offer(metrics, preferred) {
    const names = Object.keys(metrics).filter((name) => metrics[name].count > 0);
    this.box.hidden = !names.length;
    if (!names.length) return;
    if (names.join("\n") !== [...this.select.options].map((option) => option.value).join("\n")) {
      this.select.replaceChildren(...names.map((name) => el("option", { value: name }, name)));
      if (this.metric) this.select.value = this.metric;
    }
    if (this.metric === null) this.choose(names.includes(preferred) ? preferred : names[0], this.range);
    else if (performance.now() - this.at > REFRESH_MS || this.timed !== Boolean(this.feed.state)) this.fetch();
  }

  choose(metric, range) {
    this.metric = metric;
    this.range = range;
    this.select.value = metric;
    for (const button of this.ranges) mark(button, "aria-pressed", button.textContent === range);
    this.points = this.pointed = this.trouble = null;
    this.draw();
    this.fetch();
  }

  async fetch() {
    this.at = performance.now();
    this.timed = Boolean(this.feed.state); // before the first frame the clock is this browser's
    this.asked?.abort();
    const asked = (this.asked = new AbortController());
    const { metric, range } = this;
    try {
      const found = await historyOf(this.device, metric, range, this.feed.now(), patient(asked.signal));
      if (asked.signal.aborted) return;
      Object.assign(this, found, { trouble: null });
    } catch (error) {
      if (asked.signal.aborted) return;
      this.trouble = troubleOf(error);
    }
    this.draw();
  }

  /** Nobody looks any more. */
  leave() {
    this.asked?.abort();
  }

  save() {
    const rows = this.points.map((each) => [stamp(each.at), each.count, each.min, each.avg, each.max]);
    save(`${this.device}-${this.metric}-${this.range.replace(" ", "")}`, [["at", "count", "min", "avg", "max"], ...rows]);
  }

  draw() {
    const width = this.box.clientWidth;
    if (!width) return;
    this.file.disabled = !this.points?.length;
    this.picture.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    if (!this.points?.length) {
      this.picture.replaceChildren();
      this.describe();
      return;
    }
    const { min: low, max: high } = extremesOf(this.points);
    const ticks = ticksOf(low, high);
    const bottom = Math.min(low, ticks[0]);
    const top = Math.max(high, ticks.at(-1));
    this.x = (ms) => LEFT + ((ms - this.from) / (this.to - this.from)) * (width - LEFT - RIGHT);
    this.y = (value) => TOP + (1 - (value - bottom) / (top - bottom || 1)) * (HEIGHT - TOP - BOTTOM);
    this.cursor = svg("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
    const runs = runsOf(this.points, this.stepMs);
    this.picture.replaceChildren(
      ...ticks.map((value) => svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: this.y(value), y2: this.y(value) })),
      ...ticks.map((value) => svg("text", { x: LEFT - 8, y: this.y(value) + 4, "text-anchor": "end" }, tick(value, ticks, value === ticks.at(-1) ? unitOf(this.metric) : ""))),
      ...this.times(width),
      ...runs.map((run) => svg("path", { class: "band", d: `M${this.line(run, "max")}L${this.line([...run].reverse(), "min")}Z` })),
      ...runs.map((run) => svg("path", { class: run.length === 1 ? "line dot" : "line", d: `M${this.line(run, "avg")}${run.length === 1 ? "h0.01" : ""}` })),
      this.cursor,
    );
    this.show(this.points.find((each) => each.at === this.pointed));
  }

  line(run, name) {
    return run.map((each) => `${this.x(each.at + this.stepMs / 2).toFixed(1)} ${this.y(each[name]).toFixed(1)}`).join("L");
  }

  times(width) {
    const many = Math.max(2, Math.min(7, Math.floor(width / 130)));
    const format = timeFormat(RANGES[this.range][0] > 86400 ? { day: "numeric", month: "short", hour: "2-digit", hourCycle: "h23" } : { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
    return Array.from({ length: many }, (_, i) => {
      const ms = this.from + ((this.to - this.from) * i) / (many - 1);
      const anchor = i === 0 ? "start" : i === many - 1 ? "end" : "middle";
      return svg("text", { x: this.x(ms), y: HEIGHT - 6, "text-anchor": anchor }, format.format(ms));
    });
  }

  /** Say the whole in words; it is the picture's text alternative too. */
  describe() {
    this.cursor?.setAttribute("visibility", "hidden");
    let text = "Reading the history …";
    if (this.trouble) text = this.trouble;
    else if (this.points && !this.points.length) text = `No number of ${this.metric} in the last ${this.range}.`;
    else if (this.points) {
      const { min, max } = extremesOf(this.points);
      const many = this.points.reduce((sum, each) => sum + each.count, 0);
      text = `${this.metric}, last ${this.range}: ${number(min)} to ${valued(this.metric, max)}, ${plural(many, "value", "values")}, one point for ${duration(this.stepMs / 1000)}; the band is lowest to highest.`;
    }
    say(this.readout, text);
    mark(this.picture, "aria-label", text);
  }

  point(event) {
    if (!this.points?.length || !this.cursor) return;
    const place = event.clientX - this.picture.getBoundingClientRect().left;
    const middle = (each) => this.x(each.at + this.stepMs / 2);
    this.show(this.points.reduce((best, each) => (Math.abs(middle(each) - place) < Math.abs(middle(best) - place) ? each : best)));
  }

  walk(event) {
    if (!this.points?.length || event.ctrlKey || event.altKey || event.metaKey) return;
    const last = this.points.length - 1;
    const here = this.points.findIndex((each) => each.at === this.pointed);
    const to = { ArrowLeft: here < 0 ? last : here - 1, ArrowRight: here + 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.show(this.points[Math.max(0, Math.min(last, to))]);
  }

  /** Read one point, or with none the whole. */
  show(point) {
    this.pointed = point?.at ?? null;
    this.describe();
    if (!point || this.trouble) return;
    for (const end of ["x1", "x2"]) this.cursor.setAttribute(end, this.x(point.at + this.stepMs / 2));
    this.cursor.setAttribute("visibility", "visible");
    say(this.readout, `${moment(point.at)}: mean ${valued(this.metric, point.avg, 6)}, ${number(point.min)} to ${valued(this.metric, point.max)}, ${plural(point.count, "value", "values")}`);
  }
}

/** Round values across a range, two to six of them; one too narrow to tell its ends apart is seen from afar. */
function ticksOf(low, high) {
  const span = high - low > Math.abs(high) * 1e-9 ? high - low : Math.abs(high) || 1;
  const rough = span / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((each) => each * power >= rough) * power;
  const ticks = [];
  for (let i = Math.floor(low / step); ticks.length < 2 || ticks.at(-1) < high; i += 1) ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
}

/** A value of the axis, with as many decimals as the steps between them need, and with a unit where there is room. */
function tick(value, [first, second], unit) {
  const decimals = Math.max(0, -Math.floor(Math.log10(second - first)));
  const text = decimals > 6 || Math.abs(value) >= 1e7 ? number(value, 4) : value.toLocaleString("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
  return unit && text.length + unit.length <= 6 ? `${text}\u202f${unit}` : text;
}

/** Points that follow each other without a gap. */
function runsOf(points, stepMs) {
  const runs = [];
  points.forEach((each, i) => {
    if (i && each.at - points[i - 1].at <= stepMs * 1.5) runs.at(-1).push(each);
    else runs.push([each]);
  });
  return runs;
}
