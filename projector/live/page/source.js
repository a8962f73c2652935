// Where events come from: the stream that all windows of this browser share, or one of our own where that cannot be.
//
// A shared worker and not a lock among the windows, for the Web Locks API is there over HTTPS alone, and sites have none.
// This file runs before all others, so that the stream is on its way while they are fetched.

let worker = "SharedWorker" in globalThis;
let first = connected("live/events");

/** What behaves like an `EventSource` of this address, as far as the feed needs it. */
export function openSource(url) {
  const shared = first ?? connected(url);
  first = null;
  return shared ? new SharedSource(shared) : new EventSource(url);
}

function connected(url) {
  try {
    if (!worker) return null;
    const shared = new SharedWorker(new URL("shared.js", import.meta.url), { type: "module" });
    shared.port.postMessage({ url: new URL(url, document.baseURI).href });
    return shared;
  } catch {
    worker = false; // forbidden, as where a browser keeps nothing
    return null;
  }
}

class SharedSource {
  constructor(shared) {
    this.readyState = EventSource.CONNECTING;
    this.listeners = {};
    shared.onerror = () => {
      worker = false; // it cannot run: from the next time on without it
      this.take({ kind: "error", refused: false });
    };
    this.port = shared.port;
    this.port.onmessage = ({ data }) => this.take(data); // what came before waits for this
  }

  addEventListener(kind, listener) {
    this.listeners[kind] = listener;
  }

  take({ kind, data, refused }) {
    if (kind === "open") this.onopen();
    else if (kind === "message") this.onmessage({ data });
    else if (kind === "error") {
      this.readyState = refused ? EventSource.CLOSED : EventSource.CONNECTING;
      this.onerror();
    } else this.listeners[kind]?.();
  }

  close() {
    this.port.onmessage = null;
    this.port.postMessage({});
    this.port.close();
  }
}
