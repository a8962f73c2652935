// One device: what is known of it, its history, and what was rejected of it lately.

import { ask, patient, troubleOf } from "./ask.js";
import { Chart } from "./chart.js";
import { el, keyed, mark, own, say } from "./dom.js";
import { age, count, duration, moment } from "./format.js";
import { letterBytes, newestMessage } from "./message.js";
import { makeLetter, updateLetter } from "./overview.js";
import { clockError, sinceWhen } from "./row.js";
import { Spans } from "./spans.js";
import { valued } from "./units.js";

const REFRESH_MS = 2000;
const COLUMNS = ["min", "avg", "max", "count"];
const PER_HOUR = "From the first minute of the last hour that has a value to the last one";

const UNKNOWN = "Nothing is known of a device of this name, or nothing has come from it for long. What was rejected of it, if anything, is below.";

export class DeviceView {
  constructor(feed, box) {
    this.feed = feed;
    this.box = box;
    this.id = null;
    this.grafana = "";
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
    this.chart?.leave();
    this.spans?.leave();
    this.id = null;
  }

  build() {
    this.heading = el("h2", { tabindex: "-1" }, this.id);
    this.called = el("span", { class: "called" });
    this.standing = el("span", { class: "standing" });
    this.message = el("p", { class: "note" }, "Looking it up …");
    this.facts = el("dl", { class: "facts" });
    this.body = el("tbody");
    this.letters = el("ol", { id: "device-letters" });
    this.chart = new Chart(this.feed, this.id);
    this.spans = new Spans(this.id, () => this.draw());
    const head = (text, props) => el("th", { scope: "col", ...props }, text);
    this.known = el("div", { hidden: true, class: "known" },
      el("section", { "aria-label": "Facts" }, this.facts),
      this.chart.box,
      el("section", { "aria-label": "Statistics" }, this.spans.head, this.spans.note, el("div", { class: "wide" }, el("table", {},
        el("thead", {}, el("tr", {}, head("Metric"), head("last"), head("change/h", { title: PER_HOUR }), ...COLUMNS.map((name, i) => head(name, { class: i ? null : "first" })))),
        this.body))),
      el("section", { "aria-label": "Newest message" }, newestMessage(this.id)),
    );
    this.link = el("a", { class: "away", target: "_blank", rel: "noopener noreferrer", hidden: true }, "Open in Grafana");
    this.refused = el("section", { hidden: true }, el("div", { class: "head" }, el("h3", {}, "Rejected lately")), this.letters);
    this.box.replaceChildren(
      el("p", {}, el("a", { href: "#/" }, "← All devices")),
      el("div", { class: "title" }, this.heading, this.called, this.standing, this.link),
      this.message, this.known, this.refused,
    );
    this.heading.focus();
  }

  async refresh() {
    if (document.hidden || this.asked) return;
    const asked = (this.asked = new AbortController());
    const signal = patient(asked.signal);
    const query = new URLSearchParams({ id: this.id }); // not in the path, which cannot carry `..`
    try {
      this.live = await ask(`live/device?${query}`, signal);
      const { row } = this.live;
      if (row && row.standing !== "never heard") this.stats = await ask(`device/stats?${query}`, signal);
      else this.forget();
      say(this.message, !row ? UNKNOWN : row.standing === "never heard" ? neverHeard(row) : "");
    } catch (error) {
      const trouble = troubleOf(error);
      if (asked.signal.aborted || !trouble) return; // another device was asked for, or nobody is there
      say(this.message, trouble);
    } finally {
      if (this.asked === asked) this.asked = null;
    }
    if (asked.signal.aborted) return;
    this.known.hidden = !this.stats;
    if (this.stats) {
      this.chart.offer(this.stats.metrics, this.live?.spark?.metric);
      this.spans.learn();
    }
    this.draw();
  }

  /** Times are to be shown in another zone. */
  redraw() {
    if (this.id === null) return;
    this.chart.draw();
    this.draw();
  }

  forget() {
    this.stats = null;
    mark(this.box, "data-standing", null);
    say(this.standing, "");
  }

  draw() {
    const letters = this.live?.letters ?? [];
    this.refused.hidden = !letters.length;
    keyed(this.letters, letters, (each) => each.id, makeOwnLetter, (node, each) => updateLetter(node, each, this.feed.now()));
    this.link.hidden = !this.grafana || !this.stats;
    mark(this.link, "href", `${this.grafana.replace(/\/+$/, "")}/d/edge-device?${new URLSearchParams({ "var-device": this.id })}`);
    say(this.called, this.live?.row?.name ?? "");
    if (!this.stats) return;
    const now = this.feed.viewsNow();
    this.drawFacts(this.live?.row, now);
    keyed(this.body, Object.entries(this.stats.metrics), ([name, { count: many }]) => `${name} ${many > 0}`, ([name]) => this.makeMetric(name), (node, [name, metric]) => {
      const span = this.spans.of(name, metric);
      const beyond = own(this.live?.beyond, name) ?? null;
      mark(node, "data-beyond", beyond);
      mark(node, "aria-current", name === this.chart.metric ? "true" : null);
      const cells = [`${cellText(name, metric.last)}${beyond ? ` ${beyond}` : ""}`, changeText(name, span.rate), ...COLUMNS.map((column) => cellText(name, span[column], column))];
      cells.forEach((text, i) => say(node.children[i + 1], text));
    });
  }

  makeMetric(name) {
    const counted = this.stats.metrics[name].count > 0;
    const head = counted ? el("button", { type: "button", class: "plain", title: "Show its history", onclick: () => this.chart.choose(name, this.chart.range) }, name) : name;
    const cells = ["last", "rate", ...COLUMNS].map((column) => el("td", { class: column === "min" ? "first" : null }));
    return el("tr", {}, el("th", { scope: "row" }, head), ...cells);
  }

  drawFacts(row, now) {
    const { stats } = this;
    mark(this.box, "data-standing", row?.standing ?? null);
    say(this.standing, saidOf(row, now));
    const facts = {
      "Newest reading": age(stats.last_seen_ms, now),
      "by its clock": moment(stats.last_seen_ms),
      "Something came": age(row?.heard_ms ?? stats.updated_ms, this.feed.now()), // views that stand still do not keep anything from coming
      Region: stats.region ?? "none",
      Messages: count(stats.sample_count),
    };
    if (stats.clock_wrong_since) facts["Its clock"] = `${clockError(stats.clock_error_seconds)}, found ${age(Date.parse(stats.clock_wrong_since), now)}`;
    if (stats.online_since) facts[stats.online ? "Online since" : "Offline since"] = moment(Date.parse(stats.online_since));
    if (row?.care) facts[stats.state === "retired" ? "Retired by" : "Muted by"] = row.care;
    if (stats.metrics_dropped) facts["Metrics left out"] = `${count(stats.metrics_dropped)}, too many names`;
    for (const [name, value] of Object.entries(stats.tags)) facts[`Tag ${name}`] = el("a", { href: `#/?${new URLSearchParams({ tag: `${name}:${value}` })}` }, value);
    for (const [name, value] of Object.entries(row?.labels ?? {})) facts[`Label ${name}`] = el("a", { href: `#/?${new URLSearchParams({ tag: `${name}:${value}` })}` }, value);
    if (row?.blocked) facts.Blocked = "nothing that it sends is let in";
    if (row?.expected_ms) facts["Should send every"] = duration(row.expected_ms / 1000);
    if (row?.usual_ms) facts["Usually every"] = duration(row.usual_ms / 1000);
    keyed(this.facts, Object.entries(facts), ([name]) => name, ([name]) => el("div", {}, el("dt", {}, name), el("dd")), (node, [, fact]) => drawFact(node.lastChild, fact));
  }
}

/** What there is to say of a device that only the registry knows. */
function neverHeard(row) {
  const labels = Object.entries(row.labels).map(([name, value]) => `${name} ${value}`);
  const every = row.expected_ms ? [`should send every ${duration(row.expected_ms / 1000)}`] : [];
  return `${["It is in the registry", ...labels, ...every].join(", ")}. Nothing was ever heard of it.`;
}

/** How it stands, where that is worth a word. */
function saidOf(row, now) {
  const lasting = sinceWhen(row, now);
  if (lasting !== null) return lasting;
  if (row?.standing === "muted" && row.until_ms !== null) return `Muted, ${duration(Math.max(0, Math.round((row.until_ms - now) / 1000)))} left`;
  return { silent: "Silent", retired: "Retired", muted: "Muted", rejected: "Rejected lately", unknown: "Not known yet whether it is silent" }[row?.standing] ?? "";
}

/** A text, or a link. */
function drawFact(node, fact) {
  if (typeof fact === "string") say(node, fact);
  else if (node.textContent !== fact.textContent) node.replaceChildren(fact);
}

function cellText(metric, value, column) {
  if (value === null || value === undefined) return "";
  if (column === "count") return value ? count(value) : "";
  return valued(metric, value, column === "avg" ? 6 : undefined);
}

/** How fast a value changes, to as many digits as a glance takes in. */
function changeText(metric, value) {
  if (value === null || value === undefined) return "";
  return `${value > 0 ? "+" : ""}${valued(metric, value, 3)}`;
}

/** A dead letter of this device, with its bytes. */
function makeOwnLetter(letter) {
  const node = makeLetter(letter);
  node.append(letterBytes(letter.id));
  return node;
}
