// A device's history: one metric over a range.

import { ask } from "./ask.js";

/** Range → its seconds, and the step of its points. */
export const RANGES = { "1 h": [3600, "1m"], "6 h": [6 * 3600, "2m"], "24 h": [86400, "5m"], "7 d": [7 * 86400, "30m"], "30 d": [30 * 86400, "2h"] };

/** Points of one metric up to `now`, epoch milliseconds by the server's clock, with the ends of the range and the length of a step. */
export async function historyOf(device, metric, range, now, signal) {
  const to = Math.round(now);
  const [seconds, step] = RANGES[range];
  const from = to - seconds * 1000;
  const query = new URLSearchParams({ id: device, metric, from: new Date(from).toISOString(), to: new Date(to).toISOString(), step });
  const found = await ask(`device/history?${query}`, signal);
  return { from, to, stepMs: found.step_seconds * 1000, points: found.points.map((each) => ({ ...each, at: Date.parse(each.at) })) };
}

/** The lowest and the highest of some points; null of none. */
export function extremesOf(points) {
  if (!points.length) return null;
  return { min: Math.min(...points.map((each) => each.min)), max: Math.max(...points.map((each) => each.max)) };
}
