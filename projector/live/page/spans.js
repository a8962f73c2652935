// What a device's metrics amounted to of late: over all time, or in one of the windows, whichever was chosen.

import { ask, patient, troubleOf } from "./ask.js";
import { el, mark, own, say } from "./dom.js";
import { recall, remember } from "./memory.js";

/** A span → how the answer names it. */
const SPANS = { "all time": "", "24 h": "_24h", "1 h": "_1h", "5 min": "_5m" };
const FIRST = "24 h";
const REFRESH_MS = 5000;

export class Spans {
  /** `onChange()` is told when another span was chosen, or there is news. */
  constructor(device, onChange) {
    this.device = device;
    this.onChange = onChange;
    this.answer = null; // before the first
    this.asked = null;
    this.trouble = null;
    this.at = -Infinity;
    const chosen = recall("span");
    this.chosen = Object.hasOwn(SPANS, chosen ?? "") ? chosen : FIRST;
    this.buttons = Object.keys(SPANS).map((name) => el("button", { type: "button", onclick: () => this.choose(name) }, name));
    this.note = el("p", { class: "note told", "aria-live": "polite" });
    this.head = el("div", { class: "head" }, el("h3", {}, "Statistics"), el("div", { class: "choices", role: "group", "aria-label": "Of how long" }, ...this.buttons));
    this.draw();
  }

  choose(name) {
    this.chosen = name;
    remember("span", name === FIRST ? null : name);
    this.draw();
    this.onChange();
  }

  /** Ask, when it is time, and nothing is still asked. */
  async learn() {
    if (this.asked || performance.now() - this.at < REFRESH_MS) return;
    this.at = performance.now();
    const asked = (this.asked = new AbortController());
    try {
      this.answer = await ask(`device/windows?${new URLSearchParams({ id: this.device })}`, patient(asked.signal));
      this.trouble = null;
    } catch (error) {
      if (asked.signal.aborted) return;
      this.trouble = troubleOf(error) ?? this.trouble; // else nobody is there, which the connection says
    } finally {
      this.asked = null;
    }
    this.draw();
    this.onChange();
  }

  leave() {
    this.asked?.abort();
  }

  /** Mean, extremes and count of a metric in the span that was chosen, and its change an hour; `ever` is over all time. */
  of(name, ever) {
    const late = this.known ? own(this.answer.metrics, name) : null;
    const ending = SPANS[this.chosen];
    const its = (column) => late?.[`${column}${ending}`];
    const span = !ending || !this.known ? ever : { min: its("min"), avg: its("avg"), max: its("max"), count: its("count") };
    return { ...span, rate: late?.rate_1h };
  }

  get known() {
    return this.answer !== null && !this.trouble;
  }

  draw() {
    for (const button of this.buttons) mark(button, "aria-pressed", button.textContent === this.chosen);
    const said = SPANS[this.chosen] ? this.saying() : "";
    say(this.note, said);
    this.note.hidden = !said;
  }

  /** What is to be said of a window. */
  saying() {
    const [what, ending] = [`what was measured in the last ${this.chosen}`, SPANS[this.chosen]];
    if (this.trouble) return `All time, for ${what} is not known now: ${this.trouble}`;
    if (!this.known) return `All time, until ${what} is known.`;
    if (this.answer[`since${ending}`] === null) return "History is not kept that far back.";
    const metrics = Object.values(this.answer.metrics);
    return metrics.length && metrics.every((each) => !each[`count${ending}`]) ? `Nothing was measured in the last ${this.chosen}.` : "";
  }
}
