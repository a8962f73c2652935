// The stream of events: keeps the newest state, and knows how old it is.
//
// Frames come about once a second. Something is to come every two seconds, if only a pulse, so a connection that has been
// quiet for longer is dead, whatever the browser thinks of it. A page that is hidden for a while, or left, lets go, and
// comes back when it is looked at.

import { wordsOf } from "./ask.js";
import { merged } from "./merge.js";
import { openSource } from "./source.js";

const QUIET_MS = 6000;
const HIDDEN_MS = 30000;
const STAYS_MS = 3000;
const AGAIN_MS = [500, 1000, 2000, 3000];

/** Feeds `onState(state)` and `onConnection(status)`; status has `state` (connecting, live, lost), `since`, and `reason` when it was refused. */
export class Feed {
  constructor(url, onState, onConnection) {
    this.url = url;
    this.onState = onState;
    this.onConnection = onConnection;
    this.state = null;
    this.status = { state: "connecting", since: performance.now(), reason: null };
    this.heardAt = performance.now();
    this.stateAt = null;
    this.failures = 0;
    document.addEventListener("visibilitychange", () => this.seen());
    window.addEventListener("online", () => document.hidden || this.open());
    window.addEventListener("beforeunload", () => this.leave());
    window.addEventListener("pagehide", () => this.close());
    window.addEventListener("pageshow", () => this.seen());
    setInterval(() => this.watch(), 1000);
    this.open();
    this.seen(); // it may be in the background from the beginning
  }

  /** The server's clock now, as far as we know it. */
  now() {
    if (!this.state) return Date.now();
    return this.state.at_ms + (performance.now() - this.stateAt);
  }

  /** The time at which devices are as they are shown: it stands still while the views cannot be read. */
  viewsNow() {
    const { views_at_ms: seen, at_ms: at } = this.state ?? {};
    return seen && seen < at ? seen : this.now();
  }

  open() {
    this.close();
    this.heardAt = performance.now();
    if (this.status.state === "live") this.tell("connecting"); // what is shown is of before
    this.source = openSource(this.url);
    this.source.onopen = () => this.heard();
    this.source.onmessage = (event) => this.take(JSON.parse(event.data));
    this.source.addEventListener("pulse", () => this.heard());
    this.source.onerror = () => this.lost();
  }

  close() {
    clearTimeout(this.again);
    this.source?.close();
    this.source = null;
  }

  /**
   * Let go before the page is left, and come back should it stay, as when a link was a download. At `pagehide` it may be
   * too late: a browser that keeps the page for the way back freezes the shared worker, sometimes before it has heard us.
   */
  leave() {
    this.close();
    this.again = setTimeout(() => this.seen(), STAYS_MS);
  }

  heard() {
    this.heardAt = performance.now();
    this.failures = 0;
    this.tell("live");
  }

  take(frame) {
    const state = merged(this.state, frame);
    if (!state) return;
    this.state = state;
    this.stateAt = performance.now();
    this.heard();
    this.onState(state);
  }

  lost() {
    const refused = this.source?.readyState === EventSource.CLOSED; // else it would try again by itself
    this.close();
    this.tell("lost", refused ? this.status.reason : null);
    if (refused) this.inquire();
    const wait = AGAIN_MS[Math.min(this.failures++, AGAIN_MS.length - 1)];
    this.again = setTimeout(() => this.open(), wait * (0.75 + Math.random() / 2));
  }

  /** Ask why there is no stream: an EventSource keeps the answer to itself. */
  async inquire() {
    const asking = new AbortController();
    try {
      const answer = await fetch(this.url, { signal: asking.signal });
      if (answer.status === 401) location.reload(); // to where one signs in
      const reason = answer.ok ? null : await wordsOf(answer);
      if (this.status.state === "lost") this.tell("lost", reason);
    } catch {
      return; // nobody is there
    } finally {
      asking.abort(); // a stream after all: leave its place
    }
  }

  watch() {
    if (this.source && performance.now() - this.heardAt > QUIET_MS) this.lost();
    this.onConnection(this.status);
  }

  seen() {
    clearTimeout(this.leaving);
    if (document.hidden) this.leaving = setTimeout(() => this.close(), HIDDEN_MS);
    else if (!this.source) this.open();
  }

  tell(state, reason = null) {
    const since = state === this.status.state ? this.status.since : this.heardAt;
    this.status = { state, since, reason };
    this.onConnection(this.status);
  }
}
