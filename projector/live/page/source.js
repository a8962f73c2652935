// Where events come from: the stream that all windows of this browser share, or one of our own where that cannot be.

let worker = "SharedWorker" in globalThis;

/** What behaves like an `EventSource` of this address, as far as the feed needs it. */
export function openSource(url) {
  try {
    return worker ? new SharedSource(new URL(url, document.baseURI).href) : new EventSource(url);
  } catch {
    worker = false; // forbidden, as where a browser keeps nothing
    return new EventSource(url);
  }
}

class SharedSource {
  constructor(url) {
    this.readyState = EventSource.CONNECTING;
    this.listeners = {};
    const shared = new SharedWorker(new URL("shared.js", import.meta.url), { type: "module" });
    shared.onerror = () => {
      worker = false; // it cannot run: from the next time on without it
      this.take({ kind: "error", refused: false });
    };
    this.port = shared.port;
    this.port.onmessage = ({ data }) => this.take(data);
    this.port.postMessage({ url });
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
