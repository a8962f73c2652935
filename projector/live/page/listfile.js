// The list as a file: every device that matches, in the order in which it is shown, with the columns that are shown.

import { patient, troubleOf } from "./ask.js";
import { save, stamp } from "./csv.js";
import { own, say } from "./dom.js";
import { count } from "./format.js";

const PIECE = 100;
const HEAD = ["device", "state", "region", "tags", "last_seen", "usual_s", "clock_error_s", "rejected", "reason"];
const TAIL = ["heard_at", "name", "labels", "expected_s", "offline_since"]; // came later, and those who count columns find the others where they were
const seconds = (ms) => (ms === null ? null : ms / 1000);

/** Ask for the devices piece by piece and save them; `button` says how far it has come. */
export async function saveList(list, button) {
  button.disabled = true;
  list.unsaved = null;
  const choice = list.choice(); // whatever is chosen while the file is made
  const rows = new Map(); // a device may have moved from one piece to another meanwhile
  try {
    let total = 1;
    for (let start = 0; start < total; start += PIECE) {
      const found = await list.read(choice, start, PIECE, patient());
      total = found.total;
      for (const row of found.rows) if (!rows.has(row.id)) rows.set(row.id, cells(row, choice.metrics));
      if (total > PIECE) say(button, `${Math.round((100 * Math.min(start + PIECE, total)) / total)} %`);
    }
    save(`devices-${stamp(Date.now()).slice(0, 16).replace(":", "")}`, [[...HEAD, ...choice.metrics, ...TAIL], ...rows.values()]);
    if (rows.size < total) list.unsaved = `The file has ${count(rows.size)} of ${count(total)} devices: the others changed places while it was made. Sorted by device they keep them.`;
  } catch (error) {
    list.unsaved = `The list was not saved. ${troubleOf(error) ?? "Nobody answers."}`;
  } finally {
    button.disabled = false;
    say(button, "CSV");
    list.draw();
  }
}

function cells(row, metrics) {
  const pairs = (of) => Object.entries(of).map(([name, value]) => `${name}=${value}`).join("; ");
  return [
    row.id, row.standing, row.region, pairs(row.tags), row.last_seen_ms ? stamp(row.last_seen_ms) : "", seconds(row.usual_ms), row.clock_error_s ?? "",
    row.rejected, row.reason, ...metrics.map((metric) => own(row.values, metric)), row.heard_ms && stamp(row.heard_ms),
    row.name, pairs(row.labels), seconds(row.expected_ms), row.offline_since_ms && stamp(row.offline_since_ms),
  ];
}
