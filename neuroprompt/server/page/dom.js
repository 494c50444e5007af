// Elements out of data. Children that are strings become text, never markup; the page's policy (Trusted Types) would
// refuse anything else.

/** An element: `el("button.quiet", { type: "button", onclick: go }, "Go")`. */
export function el(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const node = document.createElement(name);
  if (classes.length) node.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(key.slice(2), value);
    else if (typeof value === "boolean") node.toggleAttribute(key, value);
    else if (value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Put these into `root`; the focus, if it was on something there, goes to the first button. */
export function replace(root, ...parts) {
  const held = root.contains(document.activeElement);
  root.replaceChildren(...parts.filter((part) => part !== null));
  if (held) root.querySelector("button, a")?.focus({ preventScroll: true });
}

export const find = (id) => document.getElementById(id);

/** Say something to who listens to the page. */
export function announce(text) {
  find("announce").textContent = text;
}

/** One line of what went wrong, with a way to try again; nothing takes the line away. */
export function showProblem(line, error, again) {
  if (!error) return line.replaceChildren();
  const wait = error.retryAfter ? ` Worth trying again in ${error.retryAfter} s.` : "";
  const retry = again && el("button.quiet", { type: "button", onclick: again }, "Try again");
  line.replaceChildren(el("span", {}, `${sentence(error.message)}${wait}`), ...(retry ? [retry] : []));
}

/** Of a field whose input was changed: nothing is wrong with it any more. */
export function clearProblem(input) {
  const field = input.closest("[data-field]");
  if (!field || !input.hasAttribute("aria-invalid")) return;
  field.querySelector(".field-problem").textContent = "";
  input.removeAttribute("aria-invalid");
}

/** As a sentence: servers' messages begin in lower case, and end without a stop. */
export function sentence(text) {
  const begun = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}

/** Copy a text, and say so on the button for a while. */
export async function copy(button, text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copyBySelection(text); // no clipboard where the page came over plain HTTP from another machine
  }
  const label = button.dataset.label ?? button.textContent;
  button.dataset.label = label;
  button.textContent = "Copied";
  announce(`Copied: ${label}`);
  clearTimeout(button.timer);
  button.timer = setTimeout(() => (button.textContent = label), 1500);
}

function copyBySelection(text) {
  const focused = document.activeElement;
  const area = el("textarea.unseen", { "aria-hidden": "true" });
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
  focused?.focus();
}
