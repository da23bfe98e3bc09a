// Elements. Whatever comes from an input becomes text, never markup: nothing here or elsewhere in the page reads HTML.

const byId = (id) => document.getElementById(id);

// el("p", {class: "hint", onclick: f}, "text", child, …); empty children are left out.
function el(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child || child === 0));
  return element;
}

const plural = (count, one, many = one + "s") => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

function bytesText(bytes) {
  if (bytes < 1024) return plural(bytes, "byte");
  return bytes < 1024 * 1024 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
}

let saying;
function say(text) {
  const said = byId("said");
  said.textContent = text;
  said.classList.add("shows");
  clearTimeout(saying);
  saying = setTimeout(() => said.classList.remove("shows"), 3500);
}

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without the clipboard's permission the old way still works.
    const area = el("textarea", {class: "visually-hidden", "aria-hidden": "true"});
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  say(`${what} copied`);
}

const copyButton = (text, what) =>
  el("button", {type: "button", class: "small", onclick: () => copy(text(), what)}, "Copy");

const severityChip = (severity) => el("span", {class: `chip severity ${severity.toLowerCase()}`}, severity);
const ownChip = () => el("span", {class: "chip own"}, "your rule");
