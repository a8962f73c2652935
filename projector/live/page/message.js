// What came from a device, as it is stored: its newest message, and the bytes of what was rejected. Asked for when opened.

import { ask } from "./ask.js";
import { el, say } from "./dom.js";
import { count, moment } from "./format.js";

const PATIENCE_MS = 10000;

/** A part that can be opened; `read(signal)` gives its texts: a line about it, and what it shows. */
function opened(summary, read) {
  const note = el("p", { class: "note" });
  const text = el("pre", { tabindex: "0" });
  const show = async () => {
    if (!box.open) return;
    say(note, "Reading …");
    say(text, "");
    try {
      const [about, shown] = await read(AbortSignal.timeout(PATIENCE_MS));
      say(note, about);
      say(text, shown);
    } catch (error) {
      say(note, error.name === "Refusal" ? error.message : "Nobody answers.");
    }
    text.hidden = !text.textContent;
  };
  const box = el("details", { class: "raw", ontoggle: show }, el("summary", {}, summary), note, text);
  return box;
}

/** The newest message of a device. */
export function newestMessage(device) {
  return opened("Newest message", async (signal) => {
    const found = await ask(`live/message?${new URLSearchParams({ device })}`, signal);
    const about = `measured ${moment(found.ts_ms)}, arrived ${moment(found.received_ms)}, key ${found.key}${found.region ? `, region ${found.region}` : ""}`;
    return [about, found.tags ? `${found.metrics}\ntags ${found.tags}` : found.metrics];
  });
}

/** The bytes of a dead letter. */
export function letterBytes(id) {
  return opened("Its bytes", async (signal) => {
    const found = await ask(`live/letters/${id}`, signal);
    const size = `${count(found.size)} ${found.size === 1 ? "byte" : "bytes"} on ${found.topic}`;
    return [found.size > 4000 ? `${size}, of which these are the first 4,000` : size, found.text];
  });
}
