// A blind vote: the server draws the plain prompt and a rewrite of it with one seed, on sides by lot, and says what was
// which to whoever has voted.

import { ask } from "./api.js";
import { announce, el, find, replace, showProblem } from "./dom.js";
import { wishOf } from "./state.js";

export class Votes {
  /** @param server `{ draws, votes }`, as it says itself */
  constructor(server) {
    this.server = server;
    this.section = find("votes");
    this.root = find("votes-shown");
    this.problem = find("votes-problem");
    this.wanted = null; // { original, wish, asked }
  }

  /** What a vote would be on; another prompt ends the one that is open. */
  want(wanted, isNew) {
    this.wanted = wanted;
    this.section.hidden = !wanted || !this.server.draws || !this.server.votes;
    if (isNew || !this.root.hasChildNodes()) this.invite();
  }

  invite() {
    this.asking?.abort();
    showProblem(this.problem, null);
    this.show(
      "Two pictures, one of your words alone and one of a rewrite, without saying which. Say which is better; the " +
        "vote is kept by this server.",
      this.go("Draw two"),
    );
  }

  async draw() {
    const { original, wish, asked } = this.wanted;
    const { negative: negative_prompt, ...rewriter } = asked;
    const { signal } = (this.asking = new AbortController());
    showProblem(this.problem, null);
    this.show("Drawing…", el("button.quiet", { type: "button", onclick: () => this.invite() }, "Stop"));
    try {
      const body = { prompt: original, constraints: wishOf(wish), rewriter, negative_prompt };
      const { id, left, right } = await ask("v1/duels", body, signal);
      this.showDuel(id, [left, right]);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.invite();
      showProblem(this.problem, error, () => this.draw());
    }
  }

  async vote(duel, choice) {
    if (this.voting) return;
    this.voting = true;
    showProblem(this.problem, null);
    try {
      this.tell(await ask("v1/votes", { duel, choice }));
    } catch (error) {
      showProblem(this.problem, error, () => this.vote(duel, choice));
    } finally {
      this.voting = false;
    }
  }

  // --- what is seen ---

  show(note, ...parts) {
    replace(this.root, el("p.note", {}, note), el("div.go", {}, ...parts));
  }

  go(label) {
    return el("button.quiet", { type: "button", onclick: () => this.draw() }, label);
  }

  showDuel(id, files) {
    this.figures = files.map((file, i) =>
      el(
        "figure",
        {},
        el("img", {
          src: `data:image/png;base64,${file}`,
          alt: `The ${i ? "right" : "left"} picture`,
          onload: sharpen,
        }),
        el("figcaption"),
      ),
    );
    const choice = (choice, label) =>
      el("button.quiet", { type: "button", onclick: () => this.vote(id, choice) }, label);
    const choices = [choice("left", "Left"), choice("tie", "No difference"), choice("right", "Right")];
    this.answer = el("div", {}, el("div.choices", { role: "group", "aria-labelledby": "votes-question" }, ...choices));
    replace(
      this.root,
      el("p.note", { id: "votes-question" }, `Which is the better picture of “${this.wanted.original}”?`),
      el("div.duel", {}, ...this.figures),
      this.answer,
    );
    announce("Two pictures are drawn: vote");
  }

  tell({ choice, side, prompt, rewrite }) {
    ["left", "right"].forEach((place, i) => {
      const isRewrite = place === side;
      this.figures[i].classList.toggle("chosen", place === choice);
      this.figures[i]
        .querySelector("figcaption")
        .append(el("b", {}, isRewrite ? "Rewritten" : "Plain"), isRewrite ? rewrite : prompt);
    });
    const said =
      choice === "tie" ? "No difference, you say" : `You chose the ${choice === side ? "rewrite" : "plain prompt"}`;
    replace(this.answer, el("div.go", {}, this.go("Two more"), el("span.note", {}, `${said}.`)));
    announce(`${said}. The rewrite was on the ${side}.`);
  }
}

function sharpen({ target }) {
  target.classList.toggle("pixels", target.naturalWidth <= 128);
}
