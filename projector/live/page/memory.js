// What this browser remembers of whoever looks: a convenience, so a browser that keeps nothing is no error.

const PREFIX = "edge-gateway/";

/** What was remembered; null when there is nothing, or nothing that can be read. */
export function recall(name) {
  try {
    return JSON.parse(localStorage.getItem(PREFIX + name));
  } catch {
    return null;
  }
}

/** Remember a value; null forgets it. */
export function remember(name, value) {
  try {
    if (value === null) localStorage.removeItem(PREFIX + name);
    else localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    return; // full, or forbidden
  }
}
