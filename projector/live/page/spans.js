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
    this.metrics = null; // before the first answer
    this.trouble = null;
    this.at = -Infinity;
    const chosen = recall("span");
    this.chosen = Object.hasOwn(SPANS, chosen ?? "") ? chosen : FIRST;
    this.buttons = Object.keys(SPANS).map((name) => el("button", { type: "button", onclick: () => this.choose(name) }, name));
    this.note = el("p", { class: "note", "aria-live": "polite" });
    this.head = el("div", { class: "head" }, el("h3", {}, "Statistics"), el("div", { class: "choices", role: "group", "aria-label": "Of how long" }, ...this.buttons));
    this.draw();
  }

  choose(name) {
    this.chosen = name;
    remember("span", name === FIRST ? null : name);
    this.draw();
    this.onChange();
  }

  /** Ask, when it is time. */
  async learn() {
    if (performance.now() - this.at < REFRESH_MS) return;
    this.at = performance.now();
    this.asked?.abort();
    const asked = (this.asked = new AbortController());
    try {
      this.metrics = (await ask(`device/windows?${new URLSearchParams({ id: this.device })}`, patient(asked.signal))).metrics;
      this.trouble = null;
    } catch (error) {
      if (asked.signal.aborted) return;
      this.trouble = troubleOf(error) ?? this.trouble; // else nobody is there, which the connection says
    }
    this.draw();
    this.onChange();
  }

  leave() {
    this.asked?.abort();
  }

  /** Mean, extremes and count of a metric in the span that was chosen, and its change an hour; `ever` is over all time. */
  of(name, ever) {
    const late = this.trouble ? null : own(this.metrics, name);
    const ending = SPANS[this.chosen];
    const its = (column) => late?.[`${column}${ending}`];
    const span = !ending || this.trouble ? ever : { min: its("min"), avg: its("avg"), max: its("max"), count: its("count") };
    return { ...span, rate: late?.rate_1h };
  }

  draw() {
    for (const button of this.buttons) mark(button, "aria-pressed", button.textContent === this.chosen);
    const falls = SPANS[this.chosen] && this.trouble;
    say(this.note, falls ? `All time, for what was measured in the last ${this.chosen} is not known now: ${this.trouble}` : "");
    this.note.hidden = !falls;
  }
}
