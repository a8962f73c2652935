// Tables as files (RFC 4180), made in the browser.
//
// Numbers are written with all their digits and without a unit. A text that a spreadsheet would take for a formula gets an
// apostrophe in front: what devices send is not to run on anybody's desk.

const FORMULA = /^[=+\-@\t\r]/;
const NUMBER = /^[+-]?[0-9.]+(e[+-]?[0-9]+)?$/i;

/** Rows of cells as text. */
export function csv(rows) {
  return rows.map((cells) => `${cells.map(cell).join(",")}\r\n`).join("");
}

function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const text = FORMULA.test(value) && !NUMBER.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** A moment as files have it: ISO 8601, UTC. */
export const stamp = (ms) => new Date(ms).toISOString();

/** Let the browser save rows under a name. */
export function save(name, rows) {
  const url = URL.createObjectURL(new Blob([csv(rows)], { type: "text/csv;charset=utf-8" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = `${name.replace(/[^\p{L}\p{N}._-]+/gu, "_")}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
