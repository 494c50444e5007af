// A field of several phrases: each that was typed is a chip, which a click removes.

import { announce, clearProblem, el } from "./dom.js";

export class Phrases {
  constructor(name, label, example, changed) {
    const id = `phrases-${name}`;
    this.changed = changed;
    this.example = example;
    this.phrases = [];
    this.list = el("ul", { "aria-label": label });
    this.input = el("input", {
      id,
      type: "text",
      spellcheck: "false",
      autocapitalize: "none",
      enterkeyhint: "done",
      placeholder: example,
      "aria-describedby": `${id}-hint ${id}-problem`,
      onkeydown: (event) => this.key(event),
      onblur: () => this.add(),
    });
    const hint = name === "require" ? "Enter adds one; a|b is either." : "Enter adds one.";
    this.root = el(
      "div.field",
      { "data-field": name },
      el("label", { for: id }, label),
      el("div.box.phrases", {}, this.list, this.input),
      el("p.note", { id: `${id}-hint` }, hint),
      el("p.field-problem", { id: `${id}-problem` }),
    );
  }

  read() {
    return [...this.phrases];
  }

  write(phrases) {
    this.phrases = [...phrases];
    this.input.value = "";
    this.show();
  }

  show() {
    const remove = (phrase) =>
      el("button", { type: "button", "aria-label": `Remove ${phrase}`, onclick: () => this.remove(phrase) }, "×");
    this.input.placeholder = this.phrases.length ? "" : this.example;
    this.list.replaceChildren(...this.phrases.map((phrase) => el("li", {}, el("span", {}, phrase), remove(phrase))));
  }

  add() {
    const phrase = this.input.value.trim();
    if (!phrase) return false;
    if (!this.phrases.includes(phrase)) this.phrases.push(phrase);
    this.input.value = "";
    this.show();
    announce(`Added: ${phrase}`);
    this.changed();
    return true;
  }

  remove(phrase) {
    this.phrases = this.phrases.filter((other) => other !== phrase);
    this.show();
    this.input.focus();
    clearProblem(this.input);
    announce(`Removed: ${phrase}`);
    this.changed();
  }

  key(event) {
    if ((event.key === "Enter" || event.key === ",") && !event.isComposing && this.add()) event.preventDefault();
    else if (event.key === "Backspace" && !this.input.value && this.phrases.length) {
      event.preventDefault();
      const last = this.phrases.at(-1);
      this.remove(last);
      this.input.value = last; // to be mended
    }
  }
}
