// Builds the page from the description with DOM calls only: nothing that comes from the server becomes markup.
const root = location.pathname.replace(/\/docs\/?$/, ''); // a proxy may have put the API below a path of its own
document.getElementById('description').href = `${root}/docs/openapi.json`;
const api = await (await fetch(`${root}/docs/openapi.json`)).json();
const element = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};
const named = schema => schema.$ref?.split('/').at(-1);
const typeOf = schema => {
  const parts = schema.oneOf ?? schema.anyOf;
  if (parts) return parts.map(typeOf).join(' or ');
  if (schema.type === 'array') return `array of ${typeOf(schema.items)}`;
  if (schema.additionalProperties?.$ref) return `object of ${typeOf(schema.additionalProperties)}`;
  return named(schema) ?? [schema.type].flat().join(' or ');
};
const limits = schema => (schema.oneOf ?? [schema]).flatMap(each => [
  each.minimum !== undefined && `at least ${each.minimum}`,
  each.maximum !== undefined && `at most ${each.maximum}`,
  each.maxLength !== undefined && `up to ${each.maxLength} characters`,
  each.default !== undefined && `default ${each.default}`,
]).filter(Boolean).join(', ');
const row = (...cells) => element('tr', {}, ...cells.map(cell => element('td', {}, cell)));

function operation(path, { summary, description, parameters = [], responses }) {
  const inputs = new Map();
  const out = element('pre', { hidden: true });
  const form = element('form', {}, element('table', {}, ...parameters.map(parameter => {
    const input = element('input', { name: parameter.name, required: parameter.required, ariaLabel: parameter.name });
    inputs.set(parameter, input);
    const type = element('div', { className: 'type' }, [typeOf(parameter.schema), limits(parameter.schema)].filter(Boolean).join('; '));
    return row(element('code', {}, parameter.name), input, element('div', {}, parameter.description ?? '', type));
  })), element('button', {}, 'Send'));
  form.onsubmit = async event => {
    event.preventDefault();
    let url = root + path;
    const query = new URLSearchParams();
    for (const [parameter, { value }] of inputs) {
      if (parameter.in === 'path') url = url.replace(`{${parameter.name}}`, encodeURIComponent(value));
      else if (value) query.set(parameter.name, value);
    }
    url += query.size ? `?${query}` : '';
    out.hidden = false;
    try {
      const answer = await fetch(url);
      const text = await answer.text();
      out.textContent = `GET ${url}\n${answer.status} ${answer.statusText}\n\n`;
      out.textContent += text && JSON.stringify(JSON.parse(text), null, 2);
    } catch (error) {
      out.textContent = `GET ${url}\n${error}`;
    }
  };
  const answers = Object.entries(responses).map(([status, response]) => row(
    element('code', {}, status),
    Object.values(response.content ?? {}).map(({ schema }) => typeOf(schema)).join(', '),
    response.description ?? ''));
  return element('details', { id: path },
    element('summary', {}, element('code', {}, `GET ${path}`), ` — ${summary}`),
    description ?? '', form, out, element('h4', {}, 'Answers'), element('table', {}, ...answers));
}

const schema = ([name, { description, properties = {} }]) => element('details', { id: name },
  element('summary', {}, element('code', {}, name)), element('div', { className: 'lines' }, description ?? ''),
  element('table', {}, ...Object.entries(properties).map(([field, type]) => row(element('code', {}, field), typeOf(type)))));

document.getElementById('about').textContent = api.info.description;
document.querySelector('main').append(
  ...Object.entries(api.paths).map(([path, { get }]) => operation(path, get)),
  element('h2', {}, 'What answers are made of'),
  ...Object.entries(api.components.schemas).map(schema));
