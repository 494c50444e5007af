// Who is asked for a rewrite, for which generators, and how; and of a model that tells prompts again, what stays.

import { el, find } from "./dom.js";
import { Phrases } from "./phrases.js";

const NAMES = {
  sd15: "SD 1.5",
  sd21: "SD 2.1",
  "sd-turbo": "SD Turbo",
  sdxl: "SDXL",
  "sdxl-turbo": "SDXL Turbo",
  sd35: "SD 3.5",
  "sd35-turbo": "SD 3.5 Turbo",
  flux: "FLUX",
  "flux-schnell": "FLUX schnell",
  flux2: "FLUX.2",
  "qwen-image": "Qwen-Image",
  "z-image": "Z-Image",
  "z-image-turbo": "Z-Image Turbo",
};

/** The part of the form that is about it; `changed` is called whenever any of it does. */
export class Asking {
  constructor(changed) {
    this.selects = { model: find("model"), for: find("for") };
    this.texts = { negative: find("negative"), instruction: find("instruction") };
    this.keepWords = find("keep-words");
    this.keep = new Phrases("keep", "Kept to the letter", "ohwx woman", changed);
    find("keep-here").append(this.keep.root);
    this.policies = [];
    this.selects.model.addEventListener("change", () => this.showFitting());
  }

  read() {
    const texts = Object.entries({ ...this.selects, ...this.texts });
    return {
      ...Object.fromEntries(texts.map(([name, input]) => [name, input.value.trim()])),
      keep: this.keep.read(),
      free: !this.keepWords.checked,
    };
  }

  write({ keep, free, ...texts }) {
    for (const [name, select] of Object.entries(this.selects)) {
      if (![...select.options].some(({ value }) => value === texts[name])) select.append(option(texts[name]));
      select.value = texts[name];
    }
    for (const [name, input] of Object.entries(this.texts)) input.value = texts[name];
    this.keep.write(keep);
    this.keepWords.checked = !free;
    find("instruction-part").open = Boolean(texts.instruction);
    this.showFitting();
  }

  /** What the server has, as it says itself. */
  offer({ policies, families, for: own }) {
    this.policies = policies;
    const { model, for: family } = this.read();
    const [first, ...others] = policies;
    const label = own ? `${NAMES[own] ?? own} (this server's)` : "Any generator";
    this.selects.model.replaceChildren(option("", first.name), ...others.map(({ name }) => option(name)));
    this.selects.for.replaceChildren(option("", label), ...families.map((name) => option(name, NAMES[name])));
    this.write({ ...this.read(), model, for: family });
  }

  /** Whether the model that is chosen tells prompts again; it counts as one while that is not known. */
  get retells() {
    const { value } = this.selects.model;
    const chosen = this.policies.find(({ name }) => name === value) ?? this.policies[0];
    return Boolean(chosen) && chosen.retells !== false;
  }

  showFitting() {
    find("model-field").hidden = this.policies.length < 2 && !this.selects.model.value;
    for (const id of ["keep-here", "keep-words-here", "instruction-part"]) find(id).hidden = !this.retells;
  }
}

/** As `POST /v1/enhance` takes it; of a model that continues prompts, what it has no use for is left out. */
export function askingOf({ keep, free, negative, instruction, model, for: family }, retells) {
  return {
    ...(model && { model }),
    ...(family && { for: family }),
    ...(negative && { negative }),
    ...(retells && { keep, keep_words: !free, ...(instruction && { instruction }) }),
  };
}

function option(value, label = value) {
  return el("option", { value }, label);
}
