// Brings the parts together: the feed, what the address asks for, the keyboard, and how the connection stands.

import { byId, el, keyed, say } from "./dom.js";
import { DeviceView } from "./device.js";
import { Feed } from "./feed.js";
import { clock, duration } from "./format.js";
import { DeviceList } from "./list.js";
import { drawOverview } from "./overview.js";

const NAMES = {
  redis: "Redis is away, devices and regions are as they were",
  postgres: "PostgreSQL is away, the rejections below are as they were",
  broker: "The broker is away, news comes from PostgreSQL",
  views: "The views are not what they should be",
  projector: "The projector is not ready",
};
const DEVICE = /^#\/device\/(.+)$/;
const title = document.title;

const feed = new Feed("live/events", draw, drawConnection);
const list = new DeviceList(feed);
const view = new DeviceView(feed, byId("device"));

function draw(state) {
  drawProblems();
  if (view.id === null) {
    drawOverview(state, feed.now());
    list.draw();
  } else view.draw();
  document.title = state.devices.silent ? `(${state.devices.silent} silent) ${title}` : title;
}

function drawConnection({ state, since, reason }) {
  document.body.dataset.connection = state;
  byId("connection").dataset.state = state;
  const seen = feed.state ? clock(feed.state.at_ms) : null;
  say(byId("connection-text"), { connecting: "Connecting", live: `Live, ${seen ?? "…"}`, lost: reason ? "Refused" : "Connection lost" }[state]);
  drawProblems();
  if (state !== "lost") return;
  const waited = `for ${duration(Math.round((performance.now() - since) / 1000))}`;
  byId("alerts").querySelectorAll(".waited").forEach((node) => say(node, seen ? `${waited}; below is how it was at ${seen}. Trying again.` : `${waited}. Trying again.`));
}

function drawProblems() {
  const problems = Object.entries(feed.state?.problems ?? {}).map(([component, reason]) => ({ key: component, text: `${NAMES[component] ?? component}: ${reason}${since(component)}` }));
  const lost = feed.status?.state === "lost" ? [{ key: "connection", text: feed.status.reason ?? "No connection to the projector" }] : [];
  keyed(byId("alerts"), [...lost, ...(lost.length ? [] : problems)], (each) => each.key, makeAlert, (node, each) => say(node.firstChild, each.text));
}

function makeAlert() {
  // What counts the seconds is not read aloud each second.
  return el("p", {}, el("span"), el("span", { class: "waited", "aria-hidden": "true" }));
}

function since(component) {
  const at = { redis: feed.state.views_at_ms, postgres: feed.state.letters_at_ms }[component];
  return at ? ` (as of ${clock(at)})` : "";
}

function route() {
  const device = DEVICE.exec(location.hash);
  byId("overview").hidden = Boolean(device);
  byId("device").hidden = !device;
  if (device) {
    view.show(decoded(device[1]));
    return;
  }
  view.leave();
  if (location.hash === "" || location.hash.startsWith("#/")) {
    const query = new URLSearchParams(location.hash.split("?")[1] ?? "");
    byId("query").value = query.get("q") ?? "";
    list.show({ q: query.get("q") ?? "", region: query.get("region"), tag: query.get("tag"), ahead: query.has("ahead") });
  }
  if (feed.state) draw(feed.state);
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a `%` that somebody typed
  }
}

function find(q) {
  const query = new URLSearchParams();
  if (q) query.set("q", q);
  if (list.filter.region) query.set("region", list.filter.region);
  if (list.filter.tag) query.set("tag", list.filter.tag);
  if (list.filter.ahead) query.set("ahead", "1");
  const hash = query.size ? `#/?${query}` : "#/";
  if (byId("overview").hidden) location.hash = hash;
  else history.replaceState(null, "", hash);
  route();
}

byId("query").addEventListener("input", (event) => find(event.target.value.trim()));
byId("search").addEventListener("submit", (event) => {
  event.preventDefault();
  list.focus(0);
});
byId("filter-off").addEventListener("click", () => {
  location.hash = "#/";
  byId("query").focus();
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const typing = event.target.matches("input, select, textarea");
  if (event.key === "/" && !typing) {
    event.preventDefault();
    byId("query").focus();
  } else if (event.key === "Escape") {
    if (typing && event.target.value) find("");
    else location.hash = "#/";
    event.target.blur();
  }
});
window.addEventListener("hashchange", route);
route();
