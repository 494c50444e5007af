// The form: six selectors of modifiers with search (the combobox pattern of the ARIA Authoring Practices), lists of
// phrases, who is asked, numbers; and what the server objects to, next to the field that it is about.

import { ask } from "./api.js";
import { Asking } from "./asking.js";
import { announce, clearProblem, el, find, sentence } from "./dom.js";
import { Phrases } from "./phrases.js";
import { ANY, ASKED, CATEGORIES, MOST_SEED } from "./state.js";

const NOUNS = {
  artist: "an artist",
  style: "a style",
  format: "a format",
  perspective: "a perspective",
  booster: "a booster",
  vibe: "a vibe",
};

/** Everything that is wanted; `changed` is called whenever any of it does. */
export class Form {
  constructor(changed) {
    this.root = find("wish");
    this.prompt = find("prompt");
    this.selectors = Object.fromEntries(CATEGORIES.map((category) => [category, new Selector(category, changed)]));
    find("selectors").append(...Object.values(this.selectors).map(({ root }) => root));
    this.phrases = {
      require: new Phrases("require", "Required phrases", "golden hour|sunset", changed),
      forbid: new Phrases("forbid", "Forbidden phrases", "blurry", changed),
    };
    find("phrases").prepend(...Object.values(this.phrases).map(({ root }) => root));
    this.asking = new Asking(changed);
    this.numbers = Object.fromEntries(["variants", "pictures", "seed"].map((name) => [name, find(name)]));
    this.ifBetter = { wanted: find("if-better"), pictures: find("if-better-pictures") };
    this.root.addEventListener("input", changed);
    this.root.addEventListener("input", (event) => clearProblem(event.target));
    this.prompt.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.root.requestSubmit();
    });
    find("new-seed").addEventListener("click", () => {
      this.numbers.seed.value = Math.floor(Math.random() * MOST_SEED);
      changed();
    });
  }

  read() {
    const wish = Object.fromEntries(CATEGORIES.map((category) => [category, this.selectors[category].value]));
    for (const [name, phrases] of Object.entries(this.phrases)) wish[name] = phrases.read();
    const numbers = Object.fromEntries(
      Object.entries(this.numbers).map(([name, input]) => [name, input.valueAsNumber]),
    );
    const { wanted, pictures } = this.ifBetter;
    const ifBetter = wanted.checked ? pictures.valueAsNumber : 0;
    return { prompt: this.prompt.value, wish, asking: this.asking.read(), ...numbers, ifBetter };
  }

  write({ prompt, wish, asking, ...others }) {
    this.prompt.value = prompt;
    for (const [category, selector] of Object.entries(this.selectors)) selector.value = wish[category];
    for (const [name, phrases] of Object.entries(this.phrases)) phrases.write(wish[name]);
    this.asking.write(asking);
    for (const [name, input] of Object.entries(this.numbers)) input.value = others[name];
    this.ifBetter.wanted.checked = others.ifBetter > 0;
    this.ifBetter.pictures.value = others.ifBetter || this.ifBetter.pictures.defaultValue;
    this.clear();
  }

  /** Whether pictures can decide, on a server that draws and judges so many of a request; otherwise what it lacks. */
  offerIfBetter({ draws, judges, limits }) {
    const most = Math.min(16, Math.floor((limits.max_pictures ?? 16) / 2));
    const able = draws && judges && most >= 2;
    this.ifBetter.pictures.max = most;
    for (const input of Object.values(this.ifBetter)) input.disabled = !able;
    const lacks = !draws ? "draws no pictures" : !judges ? "judges no pictures" : "draws too few pictures at once";
    const say = able ? find("if-better-hint").textContent.replace(/\s+/g, " ") : `This server ${lacks}.`;
    this.root.querySelector(".if-better").title = say;
  }

  clear() {
    for (const input of this.root.querySelectorAll("[aria-invalid]")) clearProblem(input);
  }

  /** Whether it can be asked: a phrase that is still being typed counts, and what cannot be is said. */
  check() {
    this.clear();
    for (const phrases of [...Object.values(this.phrases), this.asking.keep]) phrases.add();
    if (!this.prompt.value.trim()) return this.object("prompt", "write what the picture shows");
    const { wanted, pictures } = this.ifBetter;
    for (const [name, input] of Object.entries({ ...this.numbers, ...(wanted.checked && { if_better: pictures }) })) {
      if (!input.checkValidity()) return this.object(name, `a whole number from ${input.min} to ${input.max}`);
    }
    return true;
  }

  /** Say what is wrong next to the field that it is about; the first line of `message` may name it. */
  object(name, message) {
    const field = this.root.querySelector(`[data-field="${name}"]`);
    const input = field.querySelector("input:not([type=checkbox]), textarea, select");
    if (field.closest("details")) field.closest("details").open = true;
    field.querySelector(".field-problem").textContent = sentence(message);
    input.setAttribute("aria-invalid", "true");
    input.focus();
    return false;
  }
}

/** The field that a refusal (400, 422) of the server is about. */
export function fieldOf(message) {
  const [, name, rest] = /^(?:constraints\.)?(\w+)(?:\.\d+)*: (.*)/s.exec(message) ?? [null, null, message];
  if ([...CATEGORIES, ...ASKED, "require", "forbid", "seed", "if_better"].includes(name)) return [name, rest];
  if (/\bif_better\b/.test(message)) return ["if_better", message.replace(", with those of if_better,", "")];
  if (/\binstruction\b/.test(message)) return ["instruction", message];
  if (/\bvariants\b|^num_return_sequences|\bbeams\b/.test(message)) return ["variants", message];
  if (/\bpictures\b.*too many/.test(message)) return ["pictures", message];
  if (/\bin phrases\b|^with what is required|^\d+ clauses/.test(message)) return ["require", message];
  if (/which is forbidden/.test(message)) return ["forbid", message];
  return ["prompt", message];
}

// --- a selector --------------------------------------------------------------------------------------------------

class Selector {
  constructor(category, changed) {
    const id = `select-${category}`;
    this.category = category;
    this.changed = changed;
    this.active = -1;
    this.asked = 0;
    this.input = el("input", {
      id,
      type: "text",
      role: "combobox",
      spellcheck: "false",
      autocapitalize: "none",
      placeholder: "–",
      "aria-autocomplete": "list",
      "aria-expanded": "false",
      "aria-controls": `${id}-list`,
      "aria-describedby": `${id}-problem`,
      oninput: () => this.suggest(),
      onclick: () => this.suggest(true),
      onkeydown: (event) => this.key(event),
      onblur: () => this.close(),
    });
    this.list = el("ul", {
      id: `${id}-list`,
      role: "listbox",
      "aria-label": `Suggestions of ${category}`,
      hidden: true,
    });
    this.unset = el(
      "button.unset",
      { type: "button", "aria-label": `No ${category}`, hidden: true, onclick: () => this.choose("") },
      "×",
    );
    this.root = el(
      "div.field.selector",
      { "data-field": category, "data-kind": category },
      el("label", { for: id }, category),
      el("div.box", {}, this.input, this.unset, this.list),
      el("p.field-problem", { id: `${id}-problem` }),
    );
    this.input.addEventListener("input", () => (this.unset.hidden = !this.input.value));
  }

  get value() {
    return this.input.value.trim();
  }

  set value(text) {
    this.input.value = text;
    this.unset.hidden = !text;
  }

  get options() {
    return [...this.list.querySelectorAll("[role=option]")];
  }

  /** Open the list, of what holds the letters typed, or of all. */
  async suggest(all = false) {
    const turn = ++this.asked;
    const search = all ? "" : this.value;
    const query = new URLSearchParams({ category: this.category, limit: 60, ...(search && { search }) });
    await new Promise((later) => setTimeout(later, all ? 0 : 120));
    if (turn !== this.asked) return;
    let found;
    try {
      found = (await ask(`v1/modifiers?${query}`)).modifiers;
    } catch (error) {
      this.root.querySelector(".field-problem").textContent = sentence(error.message);
      return this.close();
    }
    if (turn !== this.asked || document.activeElement !== this.input) return;
    const offered = found.map(({ modifier, prompts }) => this.option(modifier, prompts.toLocaleString("en")));
    if (!search || ANY.startsWith(search)) offered.unshift(this.option(ANY, `the model picks ${NOUNS[this.category]}`));
    this.list.replaceChildren(...offered);
    this.mark(-1);
    this.open(offered.length > 0);
    announce(offered.length ? `${offered.length} suggestions` : "No suggestion: the phrase is taken as it is");
  }

  option(text, note) {
    const id = `${this.list.id}-${this.count++}`;
    const choose = () => this.choose(text);
    const settle = (event) => event.preventDefault(); // the input keeps the focus
    return el(
      "li",
      { id, role: "option", "aria-selected": "false", "data-value": text, onpointerdown: settle, onclick: choose },
      el("span", {}, text),
      el("span.count", {}, note),
    );
  }

  count = 0;

  choose(text) {
    this.value = text;
    this.close();
    this.input.focus();
    clearProblem(this.input);
    this.changed();
  }

  open(open) {
    this.list.hidden = !open;
    this.input.setAttribute("aria-expanded", String(open));
  }

  close() {
    this.asked++; // what is on its way comes too late
    this.open(false);
    this.mark(-1);
  }

  mark(index) {
    const { options } = this;
    options[this.active]?.setAttribute("aria-selected", "false");
    this.active = index;
    const option = options[index];
    option?.setAttribute("aria-selected", "true");
    option?.scrollIntoView({ block: "nearest" });
    if (option) this.input.setAttribute("aria-activedescendant", option.id);
    else this.input.removeAttribute("aria-activedescendant");
  }

  key(event) {
    const isOpen = !this.list.hidden;
    const { length } = this.options;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && !isOpen) this.suggest(true);
    else if (step) this.mark((Math.max(this.active, step < 0 ? 0 : -1) + step + length) % length);
    else if (event.key === "Enter" && this.active >= 0) this.choose(this.options[this.active].dataset.value);
    else if (event.key === "Enter")
      return this.close(); // and asks for the rewrite
    else if (event.key === "Escape" && isOpen) this.close();
    else if (event.key === "Escape" && this.value) this.choose("");
    else return;
    event.preventDefault();
  }
}
