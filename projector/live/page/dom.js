// Small helpers to build and to update the page. Text goes in as text, so nothing that a device sends becomes markup.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element. `props` are attributes; `class` and listeners (`onclick`) among them. */
export function el(name, props = {}, ...children) {
  return fill(document.createElement(name), props, children);
}

/** The same for SVG. */
export function svg(name, props = {}, ...children) {
  return fill(document.createElementNS(SVG, name), props, children);
}

function fill(node, props, children) {
  for (const [key, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** What an object has under a name that a device chose; `constructor` is one of those that it has not. */
export const own = (object, name) => (object && Object.hasOwn(object, name) ? object[name] : undefined);

export const byId = (id) => document.getElementById(id);

/** Set an element's text, touching the document only when it differs. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Set an attribute, or remove it with null, touching the document only when it differs. */
export function mark(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/** Make `parent`'s children those of `items`, in order, keeping the elements of items that stay. */
export function keyed(parent, items, key, make, update) {
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = String(key(item));
    let node = old.get(name);
    if (node) old.delete(name);
    else {
      node = make(item);
      node.dataset.key = name;
    }
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
    update(node, item);
  }
  for (const node of old.values()) node.remove();
}
