// One stream of events for all windows of a browser, which has six connections to a server and no more.
//
// A shared worker: it lives for as long as one of the windows does. A window that comes later gets what the others have
// as a full frame. When the stream ends all windows are told and forgotten; the first that asks again opens the next one.

import { merged } from "./merge.js";

const QUIET_MS = 6000; // as in feed.js

const windows = new Set();
let source = null;
let state = null;
let heardAt = 0;

self.onconnect = ({ ports: [port] }) => {
  port.onmessage = ({ data }) => (data.url ? join(port, data.url) : leave(port));
};

function join(port, url) {
  windows.add(port);
  if (!source) open(url);
  else if (state) port.postMessage({ kind: "message", data: JSON.stringify({ ...state, full: true }) });
}

function leave(port) {
  windows.delete(port);
  if (!windows.size) close();
}

function open(url) {
  source = new EventSource(url);
  heardAt = performance.now();
  source.onopen = () => tell({ kind: "open" });
  source.addEventListener("pulse", () => tell({ kind: "pulse" }));
  source.onmessage = ({ data }) => {
    state = merged(state, JSON.parse(data));
    tell({ kind: "message", data });
  };
  source.onerror = () => fail(source.readyState === EventSource.CLOSED);
}

function close() {
  source?.close();
  source = null;
  state = null;
}

function tell(message) {
  heardAt = performance.now();
  for (const port of windows) port.postMessage(message);
}

function fail(refused) {
  tell({ kind: "error", refused });
  windows.clear();
  close();
}

setInterval(() => {
  if (source && performance.now() - heardAt > QUIET_MS) fail(false);
}, 1000);
