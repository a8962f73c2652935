// Which metrics have a column, by what the list is sorted, and the head of the list where both are chosen.
//
// Without a choice the most common metrics of the fleet have the columns. What does not fit is left out, the last first.

import { byId, el, keyed, mark, say } from "./dom.js";
import { recall, remember } from "./memory.js";
import { unitOf } from "./units.js";

const MOST = 6;
const NARROW_PX = 900; // as in live.css
const REM = { others: 36, column: 6.4 };
const FIXED = [
  { by: "", text: "State", hint: "what needs attention first" },
  { by: "device", text: "Device" },
  { by: "region", text: "Region" },
];
const LAST = { by: "seen", text: "Last seen" };

export class Columns {
  /** `onSort(sort)` is told what was chosen, empty for what needs attention first; `onChange()` that columns did. */
  constructor(onSort, onChange) {
    this.onSort = onSort;
    this.onChange = onChange;
    this.head = byId("columns");
    this.menu = byId("choose-columns");
    this.offered = [];
    this.shown = [];
    this.sort = "";
    const chosen = recall("columns");
    this.chosen = Array.isArray(chosen) ? chosen.filter((each) => typeof each === "string").slice(0, MOST) : null;
    byId("default-columns").addEventListener("click", () => this.choose(null));
    document.addEventListener("click", (event) => {
      if (!this.menu.contains(event.target)) this.menu.open = false;
    });
    this.menu.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !this.menu.open) return;
      this.menu.open = false;
      this.menu.firstElementChild.focus();
      event.stopPropagation();
    });
  }

  /** Metrics beside those that the feed brings are asked for. */
  get wanted() {
    return this.chosen ?? [];
  }

  /** Fit the columns into a width; true when other ones are shown than before. */
  fit(offered, width) {
    this.offered = offered;
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const room = width < NARROW_PX && matchMedia(`(max-width: ${NARROW_PX}px)`).matches ? 2 : Math.max(0, Math.floor((width / rem - REM.others) / REM.column));
    const shown = (this.chosen ?? offered).slice(0, Math.min(MOST, room));
    const same = shown.join("\n") === this.shown.join("\n");
    this.shown = shown;
    return !same;
  }

  draw() {
    const { sort } = this;
    const by = sort.replace(/^-/, "");
    byId("devices").style.setProperty("--columns", this.shown.length);
    const metrics = this.shown.map((metric) => ({ by: `metric:${metric}`, text: metric, hint: unitOf(metric), metric }));
    const parts = [{ parts: FIXED.slice(0, 1) }, { parts: FIXED.slice(1) }, { parts: metrics, values: true }, { parts: [], trend: true }, { parts: [LAST] }];
    keyed(this.head, parts, (each) => parts.indexOf(each), ({ values, trend }) => el("div", { class: values ? "values" : trend ? "trend" : "" }), (node, each) => {
      if (each.trend) say(node, "Last hour");
      else keyed(node, each.parts, (part) => part.by, (part) => this.makeButton(part), (button, part) => drawButton(button, part, by, sort));
    });
    if (this.menu.open || !byId("column-choices").childElementCount) this.drawMenu();
  }

  makeButton({ by, text }) {
    return el("button", { type: "button", onclick: () => this.onSort(this.next(by)) }, el("span", { class: "cut" }, text));
  }

  /** One way, the other, and back to what needs attention: numbers and times begin with the greatest. */
  next(by) {
    const greatest = by.startsWith("metric:") || by === "seen";
    const first = greatest ? `-${by}` : by;
    const second = greatest ? by : `-${by}`;
    return !by || this.sort === second ? "" : this.sort === first ? second : first;
  }

  drawMenu() {
    const names = [...new Set([...this.offered, ...(this.chosen ?? [])])];
    const chosen = this.chosen ?? this.shown;
    keyed(byId("column-choices"), names, (name) => name, (name) => this.makeChoice(name), (node, name) => {
      const box = node.querySelector("input");
      box.checked = chosen.includes(name);
      box.disabled = !box.checked && chosen.length >= MOST;
    });
    byId("default-columns").disabled = this.chosen === null;
    const left = this.chosen ? this.chosen.length - this.shown.length : 0;
    say(byId("column-note"), left > 0 ? `${left} of them do not fit here.` : `Up to ${MOST}, in the order in which you choose them.`);
  }

  makeChoice(name) {
    const box = el("input", { type: "checkbox", onchange: () => {
      const before = this.chosen ?? this.shown;
      this.choose(box.checked ? [...before, name] : before.filter((each) => each !== name));
    } });
    return el("li", {}, el("label", {}, box, el("span", { class: "cut" }, name), el("span", { class: "note" }, unitOf(name))));
  }

  choose(names) {
    this.chosen = names;
    remember("columns", names);
    this.onChange();
    this.drawMenu();
  }
}

function drawButton(button, { by, text, hint }, sortedBy, sort) {
  const here = by === sortedBy;
  const way = !here || !by ? null : sort.startsWith("-") ? "down" : "up";
  mark(button, "aria-pressed", here);
  mark(button, "data-way", way);
  const said = here ? (by ? `sorted, ${way === "down" ? "greatest" : "least"} first` : hint) : "sort by it";
  mark(button, "aria-label", `${text}, ${said}`);
  mark(button, "title", by.startsWith("metric:") ? `${text}${hint ? `, ${hint}` : ""}` : text);
}
