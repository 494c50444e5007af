// What was rewritten: the user's words, and behind them each phrase that was added, marked by its kind. A phrase is a
// button that leaves it out and puts it back; nothing is asked anew. In what was retold the user's words are marked.

import { announce, copy, el, find, sentence } from "./dom.js";
import { named } from "./judges.js";
import { OWN, a1111, textOf } from "./state.js";

const EXAMPLES = ["boy on a horse", "a castle", "robot playing guitar", "a bowl of strawberries"];

/** What pictures said of a rewrite, for a person. */
export function told({ accepted, reason }) {
  return sentence(`${accepted ? "Better by its pictures" : "Your words came back"}: ${named(reason)}`);
}

export class Rewrites {
  /**
   * @param changed called when a phrase is left out or put back, or another variant chosen
   * @param tryExample called with a prompt
   * @param server what draws: `{ generator, sampler }`, as far as it is known
   */
  constructor(changed, tryExample, server) {
    this.root = find("rewrites-shown");
    this.changed = changed;
    this.tryExample = tryExample;
    this.server = server;
    this.show(null, {}, {});
  }

  get text() {
    return textOf(this.made.original, this.made.rewrites[this.made.chosen]);
  }

  get negative() {
    return this.made.rewrites[this.made.chosen].negative;
  }

  /** @param made of `state.js`, or null @param wish that it was made for @param asking how it was asked */
  show(made, wish, asking) {
    this.made = made;
    this.wish = wish;
    this.asking = asking;
    this.root.replaceChildren(...(made ? this.parts() : this.invitation()));
  }

  invitation() {
    const example = (prompt) =>
      el("li", {}, el("button.example", { type: "button", onclick: () => this.tryExample(prompt) }, prompt));
    return [
      el(
        "p.invitation",
        {},
        "Write what the picture shows. Your words stay as you type them; what is added appears here, marked by its " +
          "kind, and each phrase can be left out.",
      ),
      el("ul.examples", { "aria-label": "Examples" }, ...EXAMPLES.map(example)),
    ];
  }

  parts() {
    const { rewrites } = this.made;
    this.manuscript = el("div");
    const parts = [this.manuscript, this.actions()];
    if (rewrites.length > 1) parts.push(this.variants());
    this.showChosen();
    return parts;
  }

  showChosen() {
    const { original, rewrites, chosen } = this.made;
    const { pieces, warning, negative, retold, verdict } = rewrites[chosen];
    const text = retold ? this.retold(pieces) : this.added(original, pieces);
    const how = retold ? "Your words are marked." : "Press a phrase to leave it out, again to put it back.";
    const unwanted = negative && el("dl.negative", {}, el("dt", {}, "Negative prompt"), el("dd", {}, negative));
    const usual = pieces.length ? how : "Nothing was added.";
    const plain = warning ?? usual;
    const judged = verdict && (verdict.accepted ? `${told(verdict)} ${usual}` : told(verdict));
    const note = el("p.note", {}, judged ?? plain);
    this.manuscript.replaceChildren(...[text, unwanted, note].filter(Boolean));
  }

  retold(pieces) {
    const parts = pieces.map(({ text, category }) => (category === OWN ? el("mark.kept", {}, text) : text));
    return el("p.manuscript", {}, ...parts);
  }

  added(original, pieces) {
    const gaps = [...pieces.map(({ gap }) => gap), ""];
    const text = el("p.manuscript", {}, el("span.own", {}, original), gaps[0]);
    pieces.forEach((piece, i) => {
      const comma = gaps[i + 1].trimEnd(); // which no line begins with
      text.append(this.mark(piece, comma), gaps[i + 1].slice(comma.length));
    });
    return text;
  }

  mark(piece, comma) {
    const kind = piece.category ?? "other";
    const toggle = () => {
      piece.off = !piece.off;
      button.setAttribute("aria-pressed", String(!piece.off));
      announce(piece.off ? `Left out: ${piece.text}` : `Put back: ${piece.text}`);
      this.labelVariants();
      this.changed();
    };
    const button = el(
      "button.mark",
      { type: "button", "data-kind": kind, "aria-pressed": String(!piece.off), onclick: toggle },
      el("span.phrase", {}, piece.text),
      el("span.gap", { "aria-hidden": "true" }, comma),
      el("span.unseen", {}, ", "),
      el("span.kind", {}, kind),
    );
    return button;
  }

  variants() {
    const { original, rewrites, chosen } = this.made;
    const choose = (i) => () => {
      this.made.chosen = i;
      this.showChosen();
      this.changed();
    };
    this.labels = rewrites.map((rewrite) => el("span", {}, textOf(original, rewrite)));
    const rows = this.labels.map((label, i) =>
      el(
        "label",
        {},
        el("input", { type: "radio", name: "variant", checked: i === chosen, onchange: choose(i) }),
        label,
      ),
    );
    return el("fieldset.variants", {}, el("legend", {}, `${rewrites.length} variants`), ...rows);
  }

  labelVariants() {
    this.labels?.forEach((label, i) => (label.textContent = textOf(this.made.original, this.made.rewrites[i])));
  }

  actions() {
    const button = (label, text) =>
      el(
        "button.quiet",
        { type: "button", "aria-label": `Copy ${label}`, onclick: (event) => copy(event.currentTarget, text()) },
        label,
      );
    return el(
      "div.actions",
      {},
      el("span.note", { "aria-hidden": "true" }, "Copy"),
      button("Text", () => this.text),
      ...(this.made.rewrites.some(({ negative }) => negative) ? [button("Negative", () => this.negative ?? "")] : []),
      button("A1111", () =>
        a1111(this.text, this.negative, this.made.seed, this.server.generator, this.server.sampler),
      ),
      button("JSON", () => JSON.stringify(this.toJSON(), null, 2)),
      button("Link", () => location.href),
    );
  }

  toJSON() {
    const { original, seed, rewrites, chosen } = this.made;
    const listed = (pieces) => pieces.map(({ text, category }) => ({ text, category }));
    const { pieces, negative, retold, verdict } = rewrites[chosen];
    const asked = Object.fromEntries(Object.entries(this.asking).filter(([, said]) => said === true || said.length));
    const wish = Object.fromEntries(Object.entries(this.wish).filter(([, value]) => value.length));
    return {
      original,
      text: this.text,
      ...(negative && { negative }),
      ...(!retold && {
        modifiers: listed(pieces.filter(({ off }) => !off)),
        left_out: listed(pieces.filter(({ off }) => off)),
      }),
      seed,
      ...(verdict && { if_better: verdict }),
      constraints: wish,
      ...(Object.keys(asked).length && { asked }),
    };
  }
}
