// A line without axes: the course of something, as large as a word.

import { svg } from "./dom.js";

const WIDTH = 120;
const HEIGHT = 24;

/** Draw numbers, oldest first, null where there is none, into an `svg.spark`; the picture is decoration beside its text. */
export function spark(node, values) {
  const text = path(values);
  if (!node.firstChild) {
    node.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    node.setAttribute("preserveAspectRatio", "none");
    node.setAttribute("aria-hidden", "true");
    node.append(svg("path"));
  }
  if (node.firstChild.getAttribute("d") !== text) node.firstChild.setAttribute("d", text);
}

export const emptySpark = () => svg("svg", { class: "spark" });

function path(values) {
  const known = values.filter((value) => value !== null);
  if (!known.length) return "";
  const low = Math.min(...known);
  const span = Math.max(...known) - low;
  const step = WIDTH / Math.max(1, values.length - 1);
  let text = "";
  let pen = "M";
  values.forEach((value, i) => {
    if (value === null) {
      pen = "M";
      return;
    }
    const y = span ? HEIGHT - 2 - ((value - low) / span) * (HEIGHT - 4) : HEIGHT / 2;
    text += `${pen}${(i * step).toFixed(1)} ${y.toFixed(1)}`;
    const alone = pen === "M" && (values[i + 1] ?? null) === null;
    text += alone ? "m-1 0h2" : ""; // a dot, where a line has no length
    pen = "L";
  });
  return text;
}
