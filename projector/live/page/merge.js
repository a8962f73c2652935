// From frame to frame: one with `full` replaces everything, any other only what it brings.

const BY_DEVICE = ["rows", "sparks"];

/** The state after a frame; null while there is none to begin with. */
export function merged(before, { full, ...news }) {
  if (!full && !before) return null;
  const base = full ? { rows: {}, sparks: {} } : before;
  const state = { ...base, ...news };
  for (const name of BY_DEVICE) {
    state[name] = { ...base[name], ...news[name] };
    if (news.devices) state[name] = only(state[name], state.devices.order);
  }
  return state;
}

function only(rows, ids) {
  return Object.fromEntries(ids.filter((id) => Object.hasOwn(rows, id)).map((id) => [id, rows[id]]));
}
