// Brings the parts together: the feed, what the address asks for, the keyboard, and how the connection stands.

import { ask } from "./ask.js";
import { Columns } from "./columns.js";
import { byId, el, keyed, say } from "./dom.js";
import { DeviceView } from "./device.js";
import { Feed } from "./feed.js";
import { HERE, clock, duration, useZone } from "./format.js";
import { DeviceList } from "./list.js";
import { saveList } from "./listfile.js";
import { recall, remember } from "./memory.js";
import { drawOverview } from "./overview.js";
import { useUnits } from "./units.js";

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
const columns = new Columns((sort) => go({ ...list.filter, sort }), () => {
  list.renew();
  list.draw();
});
const list = new DeviceList(feed, columns);
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
  say(byId("connection-text"), { connecting: seen ? `Connecting; as of ${seen}` : "Connecting", live: `Live, ${seen ?? "…"}`, lost: reason ? "Refused" : "Connection lost" }[state]);
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
  const at = { redis: feed.state.views_at_ms, views: feed.state.views_at_ms, postgres: feed.state.letters_at_ms }[component];
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
    const q = query.get("q") ?? "";
    if (byId("query").value.trim() !== q) byId("query").value = q; // else a space could not be typed
    list.show({ q, region: query.get("region"), tag: query.get("tag"), clock: query.has("clock"), recent: query.has("recent"), hot: query.has("hot"), retired: query.has("retired"), never: query.has("never"), offline: query.has("offline"), sort: query.get("sort") ?? "" });
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

/** Show the list so, and say it in the address. */
function go({ q, region, tag, clock, recent, hot, retired, never, offline, sort }) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries({ q, region, tag, clock: clock && "1", recent: recent && "1", hot: hot && "1", retired: retired && "1", never: never && "1", offline: offline && "1", sort })) if (value) query.set(name, value);
  const hash = query.size ? `#/?${query}` : "#/";
  if (byId("overview").hidden) location.hash = hash;
  else history.replaceState(null, "", hash);
  route();
}

const find = (q) => go({ ...list.filter, q });

function showZone(name) {
  useZone(name === "UTC" ? "UTC" : HERE);
  byId("zone").value = name === "UTC" ? "UTC" : "here";
  view.redraw();
  if (feed.state) draw(feed.state);
}

async function learnSite() {
  const site = await ask("live/site");
  useUnits(site.units);
  view.grafana = site.grafana;
  byId("sign-out").hidden = !site.signed_in;
  say(byId("signed-in"), site.signed_in ?? "");
  if (feed.state) draw(feed.state);
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
byId("list-csv").addEventListener("click", () => saveList(list, byId("list-csv")));
byId("zone").addEventListener("change", (event) => {
  remember("zone", event.target.value);
  showZone(event.target.value);
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
say(byId("zone").options[0], HERE === "UTC" ? "UTC, as here" : HERE.replaceAll("_", " "));
showZone(recall("zone"));
route();
learnSite().catch(() => {}); // then without: the connection says that nobody is there
