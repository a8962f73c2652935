// Units: what the configuration says of a metric, else what the end of its name tells.

import { number } from "./format.js";

const BY_ENDING = {
  c: "°C", degc: "°C", celsius: "°C", f: "°F", degf: "°F", fahrenheit: "°F", k: "K", kelvin: "K",
  pct: "%", percent: "%", rh: "%", deg: "°", v: "V", mv: "mV", kv: "kV", volts: "V", a: "A", ma: "mA", amps: "A",
  w: "W", mw: "mW", kw: "kW", watts: "W", va: "VA", kva: "kVA", wh: "Wh", kwh: "kWh", ah: "Ah", mah: "mAh",
  hz: "Hz", khz: "kHz", mhz: "MHz", rpm: "rpm", pa: "Pa", hpa: "hPa", kpa: "kPa", bar: "bar", mbar: "mbar", psi: "psi",
  us: "µs", ms: "ms", s: "s", sec: "s", seconds: "s", minutes: "min", hours: "h",
  mm: "mm", cm: "cm", m: "m", km: "km", mps: "m/s", kmh: "km/h", m3: "m³", m3h: "m³/h", l: "l", lpm: "l/min",
  g: "g", kg: "kg", ppm: "ppm", ppb: "ppb", ugm3: "µg/m³", lx: "lx", lux: "lx", db: "dB", dbm: "dBm",
  bytes: "B", kb: "kB", mb: "MB", gb: "GB", bps: "bit/s",
};
const NAMED = /(phase|line|channel|ch|port|input|output|zone|group|type|class|part|point|sensor)[_.-][a-z]$/; // `phase_a` is no current

let configured = {};

/** Units by metric, as the site names them. */
export function useUnits(units) {
  configured = units;
}

/** The unit of a metric; empty when nothing tells. `meter.total` is asked for as a whole, then as `total`. */
export function unitOf(metric) {
  const last = metric.slice(metric.lastIndexOf(".") + 1);
  for (const name of [metric, last]) if (Object.hasOwn(configured, name)) return configured[name];
  const name = last.replace(/([a-z0-9])([A-Z])/g, "$1_$2").toLowerCase();
  const ending = /[_-]([a-z0-9]+)$/.exec(name)?.[1];
  return ending && !NAMED.test(name) && Object.hasOwn(BY_ENDING, ending) ? BY_ENDING[ending] : "";
}

/** A value of a metric with its unit, if it is a number. */
export function valued(metric, value, digits) {
  const unit = typeof value === "number" ? unitOf(metric) : "";
  const space = unit.startsWith("°") && unit.length === 1 ? "" : "\u202f"; // narrow, and not broken
  return unit ? `${number(value, digits)}${space}${unit}` : number(value, digits);
}
