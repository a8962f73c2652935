// A device's history: one metric over a range, and how low and high each of its metrics went in it.

import { ask } from "./ask.js";

/** Range → its seconds, and the step of its points. */
export const RANGES = { "1 h": [3600, "1m"], "6 h": [6 * 3600, "2m"], "24 h": [86400, "5m"], "7 d": [7 * 86400, "30m"], "30 d": [30 * 86400, "2h"] };

const MOST = 12; // metrics; of further ones only that of the chart is known
const REFRESH_MS = 30000;

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

/** The extremes of a device's metrics in the range that its chart shows. */
export class Extremes {
  constructor(feed, device) {
    this.feed = feed;
    this.device = device;
    this.range = null;
    this.known = new Map(); // metric → extremes, null without a value in the range
  }

  /** Ask for them, one metric after the other, when the range is another or it is time. */
  async learn(metrics, range) {
    const timed = Boolean(this.feed.state); // before the first frame the clock is this browser's
    if (range === this.range && timed === this.timed && performance.now() - this.at < REFRESH_MS) return;
    if (range !== this.range) this.known.clear();
    this.range = range;
    this.timed = timed;
    this.at = performance.now();
    this.leave();
    const { signal } = (this.asked = new AbortController());
    try {
      for (const metric of metrics.slice(0, MOST)) this.note(metric, range, (await historyOf(this.device, metric, range, this.feed.now(), signal)).points);
    } catch {
      return; // the chart says why
    }
  }

  note(metric, range, points) {
    if (range === this.range) this.known.set(metric, extremesOf(points));
  }

  leave() {
    this.asked?.abort();
  }
}
