// One device: what is known of it, its history, and what was rejected of it lately.

import { Chart } from "./chart.js";
import { el, keyed, mark, say } from "./dom.js";
import { age, count, duration, moment, number } from "./format.js";
import { makeLetter, updateLetter } from "./overview.js";

const REFRESH_MS = 2000;
const PATIENCE_MS = 10000;
const COLUMNS = ["last", "min", "avg", "max", "count"];

export class DeviceView {
  constructor(feed, box) {
    this.feed = feed;
    this.box = box;
    this.id = null;
  }

  show(id) {
    if (id === this.id) return;
    this.leave();
    this.id = id;
    this.stats = null;
    this.live = null;
    this.build();
    this.refresh();
    this.timer = setInterval(() => this.refresh(), REFRESH_MS);
  }

  leave() {
    clearInterval(this.timer);
    this.asked?.abort();
    this.asked = null;
    this.id = null;
  }

  build() {
    this.heading = el("h2", { tabindex: "-1" }, this.id);
    this.standing = el("span", { class: "standing" });
    this.message = el("p", { class: "note" }, "Looking it up …");
    this.facts = el("dl", { class: "facts" });
    this.body = el("tbody");
    this.letters = el("ol", { id: "device-letters" });
    this.chart = new Chart(this.id);
    const head = COLUMNS.map((name) => el("th", { scope: "col" }, name));
    this.known = el("div", { hidden: true, class: "known" },
      el("section", { "aria-label": "Facts" }, this.facts),
      this.chart.box,
      el("section", { class: "wide" }, el("table", {}, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Metric"), ...head)), this.body)),
    );
    this.refused = el("section", { hidden: true }, el("div", { class: "head" }, el("h3", {}, "Rejected lately")), this.letters);
    this.box.replaceChildren(
      el("p", {}, el("a", { href: "#/" }, "← All devices")),
      el("div", { class: "title" }, this.heading, this.standing),
      this.message, this.known, this.refused,
    );
    this.heading.focus();
  }

  async refresh() {
    if (document.hidden || this.asked) return;
    const asked = (this.asked = new AbortController());
    const signal = AbortSignal.any([asked.signal, AbortSignal.timeout(PATIENCE_MS)]);
    const name = encodeURIComponent(this.id);
    try {
      const live = await fetch(`live/devices/${name}`, { signal });
      if (live.ok) this.live = await live.json();
      const stats = this.live?.row && (await fetch(`devices/${name}/stats`, { signal }));
      if (stats?.ok) this.stats = await stats.json();
      else this.refuse(live.ok && !this.live.row);
      if (live.ok && !this.live.row) this.forget();
    } catch {
      return; // away: the connection says so; or another device was asked for
    } finally {
      if (this.asked === asked) this.asked = null;
    }
    if (asked.signal.aborted) return;
    this.known.hidden = !this.stats;
    if (this.stats) {
      say(this.message, "");
      this.chart.offer(this.stats.metrics, this.live?.spark?.metric);
    }
    this.draw();
  }

  forget() {
    this.stats = null;
    mark(this.box, "data-standing", null);
    say(this.standing, "");
  }

  refuse(unknown) {
    say(this.message, unknown ? "Nothing is known of a device of this name, or nothing has come from it for long. What was rejected of it, if anything, is below." : "Redis is away; trying again.");
  }

  draw() {
    const letters = this.live?.letters ?? [];
    this.refused.hidden = !letters.length;
    keyed(this.letters, letters, (each) => each.id, makeLetter, (node, each) => updateLetter(node, each, this.feed.now()));
    if (!this.stats) return;
    const now = this.feed.now();
    this.drawFacts(this.live?.row, now);
    keyed(this.body, Object.entries(this.stats.metrics), ([name]) => name, makeMetric, (node, [, metric]) => {
      COLUMNS.forEach((column, i) => {
        const value = metric[column] ?? null;
        say(node.children[i + 1], value === null || (column === "count" && !value) ? "" : column === "count" ? count(value) : number(value, column === "avg" ? 6 : undefined));
      });
    });
  }

  drawFacts(row, now) {
    const { stats } = this;
    mark(this.box, "data-standing", row?.standing ?? null);
    say(this.standing, row?.standing === "silent" ? `Silent for ${duration(Math.round((now - stats.last_seen_ms) / 1000))}` : row?.standing === "rejected" ? "Rejected lately" : "");
    const facts = {
      "Newest reading": age(stats.last_seen_ms, now),
      "by its clock": moment(stats.last_seen_ms),
      "Something came": age(stats.updated_ms, now),
      Region: stats.region ?? "none",
      Messages: count(stats.sample_count),
    };
    if (stats.clock_ahead_ms !== null) facts["Its clock"] = `${duration(stats.clock_ahead_ms / 1000)} ahead`;
    for (const [name, value] of Object.entries(stats.tags)) facts[`Tag ${name}`] = el("a", { href: `#/?${new URLSearchParams({ tag: `${name}:${value}` })}` }, value);
    if (row?.usual_ms) facts["Usually every"] = duration(row.usual_ms / 1000);
    keyed(this.facts, Object.entries(facts), ([name]) => name, ([name]) => el("div", {}, el("dt", {}, name), el("dd")), (node, [, fact]) => drawFact(node.lastChild, fact));
  }
}

/** A text, or a link. */
function drawFact(node, fact) {
  if (typeof fact === "string") say(node, fact);
  else if (node.textContent !== fact.textContent) node.replaceChildren(fact);
}

function makeMetric([name]) {
  return el("tr", {}, el("th", { scope: "row" }, name), ...COLUMNS.map(() => el("td")));
}
