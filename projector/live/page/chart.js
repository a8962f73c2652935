// The course of one metric of a device: mean as a line, lowest to highest as a band, from the rollups.

import { el, mark, say, svg } from "./dom.js";
import { duration, moment, number, plural } from "./format.js";

const RANGES = { "1 h": [3600, "1m"], "6 h": [6 * 3600, "2m"], "24 h": [86400, "5m"], "7 d": [7 * 86400, "30m"], "30 d": [30 * 86400, "2h"] };
const REFRESH_MS = 15000;
const HEIGHT = 272;
const LEFT = 56;
const BOTTOM = 24;
const TOP = 10;
const RIGHT = 12;

export class Chart {
  constructor(device) {
    this.device = device;
    this.range = "1 h";
    this.metric = null;
    this.at = -Infinity;
    this.select = el("select", { "aria-label": "Metric", onchange: () => this.choose(this.select.value, this.range) });
    this.ranges = Object.keys(RANGES).map((name) =>
      el("button", { type: "button", onclick: () => this.choose(this.metric, name) }, name));
    this.picture = svg("svg", { class: "chart", role: "img", onpointermove: (event) => this.point(event), onpointerleave: () => this.describe() });
    this.readout = el("p", { class: "note", id: "chart-readout" });
    this.box = el(
      "section", { "aria-label": "History", hidden: true },
      el("div", { class: "head" }, el("h3", {}, "History"), this.select, el("div", { class: "choices", role: "group", "aria-label": "How far back" }, ...this.ranges)),
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
    else if (performance.now() - this.at > REFRESH_MS) this.fetch();
  }

  choose(metric, range) {
    this.metric = metric;
    this.range = range;
    this.select.value = metric;
    for (const button of this.ranges) mark(button, "aria-pressed", button.textContent === range);
    this.points = null;
    this.draw();
    this.fetch();
  }

  async fetch() {
    this.at = performance.now();
    this.asked?.abort();
    const asked = (this.asked = new AbortController());
    const to = Date.now();
    const [seconds, step] = RANGES[this.range];
    const from = to - seconds * 1000;
    const query = new URLSearchParams({ metric: this.metric, from: new Date(from).toISOString(), to: new Date(to).toISOString(), step });
    try {
      const answer = await fetch(`devices/${encodeURIComponent(this.device)}/history?${query}`, { signal: asked.signal });
      if (asked.signal.aborted) return;
      if (!answer.ok) {
        say(this.readout, "The history cannot be read now; trying again.");
        return;
      }
      const found = await answer.json();
      this.from = from;
      this.to = to;
      this.stepMs = found.step_seconds * 1000;
      this.points = found.points.map((each) => ({ ...each, at: Date.parse(each.at) }));
    } catch {
      return; // away: the connection says so
    }
    this.draw();
  }

  draw() {
    const width = this.box.clientWidth;
    if (!width) return;
    this.picture.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.describe();
    if (!this.points?.length) {
      this.picture.replaceChildren();
      return;
    }
    const low = Math.min(...this.points.map((each) => each.min));
    const high = Math.max(...this.points.map((each) => each.max));
    const ticks = ticksOf(low, high);
    const bottom = Math.min(low, ticks[0]);
    const top = Math.max(high, ticks.at(-1));
    this.x = (ms) => LEFT + ((ms - this.from) / (this.to - this.from)) * (width - LEFT - RIGHT);
    this.y = (value) => TOP + (1 - (value - bottom) / (top - bottom || 1)) * (HEIGHT - TOP - BOTTOM);
    this.cursor = svg("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
    const runs = runsOf(this.points, this.stepMs);
    this.picture.replaceChildren(
      ...ticks.map((value) => svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: this.y(value), y2: this.y(value) })),
      ...ticks.map((value) => svg("text", { x: LEFT - 8, y: this.y(value) + 4, "text-anchor": "end" }, tick(value, ticks))),
      ...this.times(width),
      ...runs.map((run) => svg("path", { class: "band", d: `M${this.line(run, "max")}L${this.line([...run].reverse(), "min")}Z` })),
      ...runs.map((run) => svg("path", { class: "line", d: `M${this.line(run, "avg")}${run.length === 1 ? "h1.5" : ""}` })),
      this.cursor,
    );
  }

  line(run, name) {
    return run.map((each) => `${this.x(each.at + this.stepMs / 2).toFixed(1)} ${this.y(each[name]).toFixed(1)}`).join("L");
  }

  times(width) {
    const many = Math.max(2, Math.min(7, Math.floor(width / 130)));
    const format = new Intl.DateTimeFormat([], RANGES[this.range][0] > 86400 ? { day: "numeric", month: "short", hour: "2-digit", hourCycle: "h23" } : { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
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
    if (this.points && !this.points.length) text = `No number of ${this.metric} in the last ${this.range}.`;
    else if (this.points) {
      const low = Math.min(...this.points.map((each) => each.min));
      const high = Math.max(...this.points.map((each) => each.max));
      const many = this.points.reduce((sum, each) => sum + each.count, 0);
      text = `${this.metric}, last ${this.range}: ${number(low)} to ${number(high)}, ${plural(many, "value", "values")}, one point for ${duration(this.stepMs / 1000)}; the band is lowest to highest.`;
    }
    say(this.readout, text);
    mark(this.picture, "aria-label", text);
  }

  point(event) {
    if (!this.points?.length || !this.cursor) return;
    const place = event.clientX - this.picture.getBoundingClientRect().left;
    const middle = (each) => this.x(each.at + this.stepMs / 2);
    const nearest = this.points.reduce((best, each) => (Math.abs(middle(each) - place) < Math.abs(middle(best) - place) ? each : best));
    for (const end of ["x1", "x2"]) this.cursor.setAttribute(end, middle(nearest));
    this.cursor.setAttribute("visibility", "visible");
    say(this.readout, `${moment(nearest.at)}: mean ${number(nearest.avg, 6)}, ${number(nearest.min)} to ${number(nearest.max)}, ${plural(nearest.count, "value", "values")}`);
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

/** A value of the axis, with as many decimals as the steps between them need. */
function tick(value, [first, second]) {
  const decimals = Math.max(0, -Math.floor(Math.log10(second - first)));
  return decimals > 6 || Math.abs(value) >= 1e7 ? number(value, 4) : value.toLocaleString("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
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
