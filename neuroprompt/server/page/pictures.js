// The plain prompt and its rewrite, drawn with the same seeds, a slider between them, and what judges make of them.

import { ask } from "./api.js";
import { announce, el, find, replace, showProblem } from "./dom.js";
import { labelOf, titleOf } from "./judges.js";
import { negativeFor } from "./state.js";

export class Pictures {
  /** @param server `{ draws, judges, limits, generator }`, as it says itself */
  constructor(server) {
    this.server = server;
    this.root = find("pictures-shown");
    this.section = find("pictures-section");
    this.problem = find("pictures-problem-line");
    this.drawn = null; // { original, text, negative, pairs: [{ seed, before, after }], chosen, scores }
    this.wanted = null; // { original, text, negative, asked, seed, count }
  }

  /** What would be drawn now; null where there is no rewrite. */
  want(wanted, isNew = false) {
    this.wanted = wanted;
    if (isNew || !wanted) this.discard();
    this.section.hidden = !wanted;
    this.show();
  }

  discard() {
    this.asking?.abort();
    this.asking = null;
    for (const { before, after } of this.drawn?.pairs ?? [])
      [before, after].forEach(({ url }) => URL.revokeObjectURL(url));
    this.drawn = null;
    showProblem(this.problem, null);
  }

  get isStale() {
    const { drawn, wanted } = this;
    return drawn && wanted && ["original", "text", "negative"].some((name) => drawn[name] !== wanted[name]);
  }

  async draw() {
    const { original, text, negative, asked, seed, count } = this.wanted;
    this.discard();
    const { signal } = (this.asking = new AbortController());
    this.show();
    try {
      const drawing = (prompt, unwanted) => {
        const body = { prompt, original, n: count, seed, enhance: false };
        const negative_prompt = unwanted && negativeFor(this.server.generator, unwanted);
        return ask("v1/images/generations", { ...body, ...(negative_prompt && { negative_prompt }) }, signal);
      };
      const [before, after] = await Promise.all([drawing(original, asked.negative), drawing(text, negative)]);
      const read = ({ data, output_format }, i) => new Picture(data[i].b64_json, `image/${output_format}`);
      const pairs = before.data.map(({ seed }, i) => ({ seed, before: read(before, i), after: read(after, i) }));
      this.drawn = { original, text, negative, pairs, chosen: 0, scores: null };
      this.asking = null;
      this.show();
      announce(`${2 * pairs.length} pictures are drawn`);
      if (this.server.judges) await this.judge();
    } catch (error) {
      if (error.name === "AbortError") return;
      this.asking = null;
      showProblem(this.problem, error, () => this.draw());
      this.show();
    }
  }

  async judge() {
    const { drawn } = this;
    showProblem(this.problem, null);
    try {
      const pictures = drawn.pairs.flatMap(({ before, after }) => [before, after]);
      const texts = drawn.pairs.flatMap(() => [drawn.original, drawn.text]);
      const said = await judged(drawn.original, pictures, texts, this.server.limits);
      const paired = (all) => drawn.pairs.map((_, i) => ({ before: all[2 * i], after: all[2 * i + 1] }));
      [drawn.scores, drawn.answers] = [paired(said.scores), paired(said.answers)];
    } catch (error) {
      if (drawn === this.drawn) showProblem(this.problem, error, () => this.judge());
    }
    if (drawn === this.drawn) this.showScores();
  }

  // --- what is seen ---

  show() {
    if (!this.wanted) return replace(this.root);
    if (!this.server.draws)
      return replace(
        this.root,
        missing(
          "This server draws no pictures. Start it with",
          "neuroprompt serve --generator embedded",
          ", or with the address of a generator that runs already.",
        ),
      );
    const parts = [this.head()];
    if (this.drawn) {
      const beside = el("div.beside", {}, this.seeds(), this.downloads());
      parts.push(el("div.pair-view", {}, this.comparison(), beside), (this.table = el("div")));
    }
    if (this.asking) parts.push(el("div.pair-view", {}, el("div.waiting")));
    replace(this.root, ...parts);
    if (this.drawn) {
      this.showPair();
      this.showScores();
    }
  }

  head() {
    const { original, text, count, seed } = this.wanted;
    if (text === original && !this.wanted.negative) return el("p.note", {}, "Nothing is added: both pictures would be the same.");
    if (this.asking)
      return el(
        "div.go",
        {},
        el("button.quiet", { type: "button", onclick: () => this.want(this.wanted, true) }, "Stop"),
        el("span.note", {}, "Drawing…"),
      );
    const say = this.isStale
      ? "The prompt has changed since these were drawn."
      : `${count === 1 ? `Seed ${seed}` : `Seeds ${seed}–${seed + count - 1}`}, the same for both.`;
    const label = this.drawn ? "Draw again" : "Draw both";
    return el(
      "div.go",
      {},
      el(
        this.drawn && !this.isStale ? "button.quiet" : "button.primary",
        { type: "button", onclick: () => this.draw() },
        label,
      ),
      el("span.note", {}, say),
    );
  }

  comparison() {
    const move = () => {
      figure.style.setProperty("--at", `${slider.value}%`);
      slider.setAttribute("aria-valuetext", `plain ${slider.value} %, rewritten ${100 - slider.value} %`);
    };
    const slider = el("input", {
      type: "range",
      min: 0,
      max: 100,
      value: 50,
      "aria-label": "Between plain and rewritten",
      oninput: move,
    });
    this.after = el("img.after", { alt: "" });
    this.before = el("img.before", { alt: "" });
    const figure = el(
      "div.compare",
      {},
      this.after,
      this.before,
      slider,
      el("div.bar", { "aria-hidden": "true" }),
      el("span.side.left", { "aria-hidden": "true" }, "plain"),
      el("span.side.right", { "aria-hidden": "true" }, "rewritten"),
    );
    move();
    return figure;
  }

  seeds() {
    const { pairs, chosen } = this.drawn;
    if (pairs.length === 1) return null;
    const choose = (i) => () => {
      this.drawn.chosen = i;
      this.showPair();
      this.showScores();
    };
    const rows = pairs.map(({ seed, before, after }, i) =>
      el(
        "label",
        {},
        el("input.unseen", { type: "radio", name: "pair", checked: i === chosen, onchange: choose(i) }),
        el("span.pair", {}, el("img", { src: before.url, alt: "" }), el("img", { src: after.url, alt: "" })),
        el("span.seed", {}, `seed ${seed}`),
      ),
    );
    return el("fieldset.seeds", {}, el("legend.unseen", {}, "Which seed"), ...rows);
  }

  downloads() {
    this.saves = ["plain", "rewritten"].map((which) => el("a.quiet", {}, `Save ${which}`));
    return el("div.actions", {}, ...this.saves);
  }

  showPair() {
    const { original, text, pairs, chosen } = this.drawn;
    const { seed, before, after } = pairs[chosen];
    for (const [image, picture, alt] of [
      [this.before, before, `Drawn of: ${original}`],
      [this.after, after, `Drawn of: ${text}`],
    ]) {
      image.src = picture.url;
      image.alt = alt;
      image.onload = () => {
        image.parentElement.style.setProperty("--ratio", `${image.naturalWidth} / ${image.naturalHeight}`);
        image.classList.toggle("pixels", image.naturalWidth <= 128);
      };
    }
    const suffix = before.kind.replace("jpeg", "jpg");
    [before, after].forEach(({ url }, i) => {
      this.saves[i].href = url;
      this.saves[i].download = `neuroprompt-${seed}-${i ? "rewritten" : "plain"}.${suffix}`;
    });
  }

  showScores() {
    if (!this.server.judges)
      return this.table.replaceChildren(
        missing("This server judges no pictures: start it with", "--rewards pickscore:1,aesthetic:0,clip:0", "."),
      );
    const { scores, chosen, pairs } = this.drawn;
    if (!scores) return this.table.replaceChildren(el("p.note", {}, this.problem.hasChildNodes() ? "" : "Judging…"));
    const many = pairs.length > 1;
    const head = ["", "plain", "rewritten", "difference", ...(many ? [`mean of ${pairs.length}`] : [])];
    const { before, after } = scores[chosen];
    const rows = Object.keys(before).map((name) => {
      const digits = Math.abs(before[name]) < 2 ? 3 : 2;
      const mean = scores.reduce((sum, pair) => sum + pair.after[name] - pair.before[name], 0) / scores.length;
      const cells = [
        number(before[name], digits),
        number(after[name], digits),
        signed(after[name] - before[name], digits),
        ...(many ? [signed(mean, digits)] : []),
      ];
      const label = el("span", { title: titleOf(name) }, labelOf(name));
      return el("tr", {}, el("th", { scope: "row" }, label), ...cells.map((cell) => el("td", {}, cell)));
    });
    this.table.replaceChildren(
      el(
        "table.scores",
        {},
        el("caption", {}, "What judges make of them, for the plain prompt"),
        el("thead", {}, el("tr", {}, ...head.map((text) => (text ? el("th", { scope: "col" }, text) : el("td"))))),
        el("tbody", {}, ...rows),
      ),
      ...this.details(),
    );
  }

  /** What a judge asked about the pair that is seen, and how sure it is of the answers that are wanted. */
  details() {
    const { answers, chosen } = this.drawn;
    const { before, after } = answers[chosen];
    const sure = (score) => el("td", {}, `${Math.round(100 * score)}\u00a0%`);
    const table = ([name, asked]) => {
      const rows = asked.map(({ question, answer, score }, i) => {
        const wanted = answer === "yes" ? question : `${question} (${answer})`;
        return el("tr", {}, el("th", { scope: "row" }, wanted), sure(score), sure(after[name][i].score));
      });
      const head = ["plain", "rewritten"].map((text) => el("th", { scope: "col" }, text));
      return el(
        "table.scores",
        {},
        el("caption", {}, `${labelOf(name)}, one by one`),
        el("thead", {}, el("tr", {}, el("td"), ...head)),
        el("tbody", {}, ...rows),
      );
    };
    return Object.entries(before).map(table);
  }
}

/** A picture file, as it came. */
class Picture {
  constructor(base64, type) {
    this.base64 = base64;
    this.kind = type.split("/")[1];
    this.file = new Blob([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], { type });
    this.url = URL.createObjectURL(this.file);
  }
}

/** The scores of pictures, and the answers about them, in as few requests as the server's limits allow. */
async function judged(prompt, pictures, texts, { max_body, max_prompts }) {
  const most = 0.9 * max_body;
  const files = await Promise.all(
    pictures.map(({ base64, file }) => (base64.length > most / 2 ? smaller(file) : base64)),
  );
  const groups = [[]];
  let size = 0;
  for (const file of files) {
    if (groups.at(-1).length && (size + file.length > most || groups.at(-1).length === max_prompts)) {
      groups.push([]);
      size = 0;
    }
    groups.at(-1).push(file);
    size += file.length;
  }
  const said = { scores: [], answers: [] };
  for (const group of groups) {
    const body = { prompt, pictures: group, texts: texts.splice(0, group.length) };
    const { results, answers } = await ask("v1/score", body);
    said.scores.push(...results);
    said.answers.push(...answers);
  }
  return said;
}

/** The picture as JPEG, in base64: one that is too large for a request. */
async function smaller(file) {
  const bitmap = await createImageBitmap(file);
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  const made = new Uint8Array(await (await canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 })).arrayBuffer());
  let text = "";
  for (const byte of made) text += String.fromCharCode(byte);
  return btoa(text);
}

const number = (value, digits) => value.toFixed(digits).replace("-", "−");

function signed(value, digits) {
  const rounded = Number(value.toFixed(digits));
  const mark = rounded > 0 ? "up" : rounded < 0 ? "down" : "same";
  return el(`span.${mark}`, {}, `${rounded < 0 ? "−" : rounded > 0 ? "+" : "±"}${Math.abs(rounded).toFixed(digits)}`);
}

function missing(before, command, after) {
  return el("p.note", {}, `${before} `, el("code", {}, command), after);
}
