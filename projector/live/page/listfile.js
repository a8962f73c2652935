// The list as a file: every device that matches, in the order in which it is shown, with the columns that are shown.

import { Refusal } from "./ask.js";
import { save, stamp } from "./csv.js";
import { byId, say } from "./dom.js";

const PIECE = 100;
const HEAD = ["device", "state", "region", "tags", "last_seen", "usual_s", "clock_ahead_s", "rejected", "reason"];
const seconds = (ms) => (ms === null ? null : ms / 1000);

/** Ask for the devices piece by piece and save them; `button` says how far it has come. */
export async function saveList(list, button) {
  button.disabled = true;
  const metrics = list.columns.chosen ?? list.columns.shown;
  const rows = new Map(); // a device may have moved from one piece to another meanwhile
  try {
    for (let start = 0, total = 1; start < total; start += PIECE) {
      const found = await list.read(start, PIECE);
      total = found.total;
      for (const row of found.rows) if (!rows.has(row.id)) rows.set(row.id, cells(row, metrics));
      if (total > PIECE) say(button, `${Math.round((100 * Math.min(start + PIECE, total)) / total)} %`);
    }
    save(`devices-${stamp(Date.now()).slice(0, 16).replace(":", "")}`, [[...HEAD, ...metrics], ...rows.values()]);
  } catch (error) {
    byId("list-trouble").hidden = false;
    say(byId("list-trouble"), `The list was not saved. ${error instanceof Refusal ? error.message : "Nobody answers."}`);
  } finally {
    button.disabled = false;
    say(button, "CSV");
  }
}

function cells(row, metrics) {
  const tags = Object.entries(row.tags).map(([name, value]) => `${name}=${value}`).join("; ");
  return [
    row.id, row.standing, row.region, tags, stamp(row.last_seen_ms), seconds(row.usual_ms), seconds(row.ahead_ms),
    row.rejected, row.reason, ...metrics.map((metric) => row.values[metric]),
  ];
}
