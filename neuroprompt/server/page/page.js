// The page: a wish on one side, what becomes of it on the other. Everything that it shows is in one state (state.js).

import { ask, parts } from "./api.js";
import { announce, el, find, showProblem } from "./dom.js";
import { askingOf } from "./asking.js";
import { Form, fieldOf } from "./fields.js";
import { Pictures } from "./pictures.js";
import { Rewrites, told } from "./rewrites.js";
import { entries, forget, piecesOf, read, remember, wishOf, write } from "./state.js";
import { Votes } from "./votes.js";

const server = { draws: false, judges: false, votes: false, limits: {}, generator: null, sampler: null };
const form = new Form(save);
const rewrites = new Rewrites(edited, tryExample, server);
const pictures = new Pictures(server);
const votes = new Votes(server);
const problem = find("rewrites-problem");
const button = find("rewrite");

let asking = null;
let saving = 0;

// --- rewriting ---------------------------------------------------------------------------------------------------

async function rewrite() {
  if (asking) return asking.abort();
  if (!form.check()) return;
  const { prompt, wish, asking: how, variants, seed, ifBetter } = form.read();
  const pictures = server.draws && server.judges ? ifBetter : 0;
  asking = new AbortController();
  busy(true, pictures ? "Drawing both, to see which is better…" : "");
  showProblem(problem, null);
  try {
    const asked = askingOf(how, form.asking.retells);
    const better = pictures && { if_better: pictures };
    const body = { prompts: prompt, seed, num_return_sequences: variants, ...wishOf(wish), ...asked, ...better };
    const [found] = (await ask("v1/enhance", body, asking.signal)).results;
    const made = { at: Date.now(), original: prompt, seed, chosen: 0, rewrites: found.map(piecesOf) };
    show(made, wish, how, true);
    save();
    flush(true);
    const { retold, verdict, pieces } = made.rewrites[0];
    const added = `Rewritten: ${pieces.length} ${pieces.length === 1 ? "phrase" : "phrases"} added`;
    announce(verdict && !verdict.accepted ? told(verdict) : retold ? "Retold" : added);
    find("rewrites").scrollIntoView({ block: "nearest", behavior: "smooth" });
  } catch (error) {
    if (error.name === "AbortError") announce("Stopped");
    else if ([400, 422].includes(error.status)) form.object(...fieldOf(error.message));
    else showProblem(problem, error, rewrite);
  } finally {
    asking = null;
    busy(false);
  }
}

function busy(isBusy, doing = "") {
  find("doing").textContent = doing;
  if (doing) announce(doing);
  button.textContent = isBusy ? "Stop" : "Rewrite";
  find("rewrites").setAttribute("aria-busy", String(isBusy));
}

function show(made, wish, how, isNew) {
  rewrites.show(made, wish, how);
  pictures.want(wanted(), isNew);
  votes.want(wanted(), isNew);
}

/** A phrase was left out or put back, or another variant chosen. */
function edited() {
  pictures.want(wanted());
  votes.want(wanted());
  save();
}

/** What would be drawn. */
function wanted() {
  const { made } = rewrites;
  if (!made) return null;
  const count = Math.min(form.numbers.pictures.valueAsNumber || 1, server.limits.max_pictures ?? 1);
  const { text, negative, wish, asking: how } = rewrites;
  const asked = askingOf(how, form.asking.retells);
  return { original: made.original, text, negative, wish, asked, seed: made.seed, count };
}

function tryExample(prompt) {
  form.prompt.value = prompt;
  form.prompt.focus();
  rewrite();
}

// --- the state: in the address, and from there in the history and in links -----------------------------------------

function state() {
  return { ...form.read(), made: rewrites.made };
}

function save() {
  clearTimeout(saving);
  saving = setTimeout(flush, 250);
}

function flush(isNew = false) {
  clearTimeout(saving);
  const now = state();
  const fragment = write(now);
  history.replaceState(null, "", fragment ? `#${fragment}` : location.pathname + location.search);
  remember(now, isNew);
}

function load(fragment) {
  const found = read(fragment);
  form.write(found);
  showProblem(problem, null);
  show(found.made, found.wish, found.asking, true);
  find("constraints").open =
    matchMedia("(min-width: 56rem)").matches ||
    Object.values(found.wish).some(({ length }) => length) ||
    Boolean(found.asking.negative || found.asking.keep.length || found.asking.free);
}

function listHistory() {
  const found = entries();
  const row = ({ at, title, fragment }) => {
    const open = () => {
      flush();
      load(fragment);
      history.replaceState(null, "", `#${fragment}`);
      find("history").close();
    };
    const remove = () => {
      forget(at);
      listHistory();
    };
    const when = new Date(at).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    return el(
      "li",
      {},
      el("button.entry", { type: "button", onclick: open }, el("span", {}, title), el("time", {}, when)),
      el("button.quiet", { type: "button", "aria-label": `Forget ${title}`, onclick: remove }, "×"),
    );
  };
  find("history-list").replaceChildren(...found.map(row));
  find("clear-history").hidden = !found.length;
}

// --- the server --------------------------------------------------------------------------------------------------

async function meet() {
  try {
    const info = await ask("info");
    const { policy, generator, rewards } = info.models;
    Object.assign(server, {
      draws: generator !== "none",
      judges: rewards !== "none",
      votes: Boolean(info.votes),
      limits: info.limits,
      generator: info.generator,
    });
    find("server").title = `policy ${policy}, generator ${generator}, rewards ${rewards}`;
    form.numbers.variants.max = Math.min(16, info.limits.max_variants);
    form.numbers.pictures.max = Math.min(8, info.limits.max_pictures);
    form.asking.offer(info);
    form.offerIfBetter(server);
    if (rewrites.made) show(rewrites.made, rewrites.wish, rewrites.asking, false);
    await watch();
    const unknown = info.policies.some(({ retells }) => retells === null);
    if (unknown || (server.draws && !server.generator)) {
      const now = await ask("info");
      server.generator = now.generator;
      form.asking.offer(now);
    }
    if (server.draws) [{ name: server.sampler }] = await ask("sdapi/v1/samplers");
  } catch (error) {
    showProblem(problem, error, () => {
      showProblem(problem, null);
      meet();
    });
  }
}

/** Say which part is not there yet, until all are. */
async function watch() {
  const words = { policy: "rewriter", generator: "generator", rewards: "judges" };
  for (;;) {
    const waiting = Object.entries(await parts()).filter(([, how]) => how !== "ready");
    find("server").dataset.state = waiting.length ? "waiting" : "ready";
    find("server").textContent = waiting.map(([name, how]) => `${words[name] ?? name}: ${how}`).join(", ") || "ready";
    if (!waiting.length) return;
    await new Promise((later) => setTimeout(later, 2000));
  }
}

form.root.addEventListener("submit", (event) => {
  event.preventDefault();
  rewrite();
});
form.numbers.pictures.addEventListener("input", () => pictures.want(wanted()));
find("open-history").addEventListener("click", () => {
  listHistory();
  find("history").showModal();
});
find("close-history").addEventListener("click", () => find("history").close());
find("clear-history").addEventListener("click", () => {
  forget();
  listHistory();
});
addEventListener("hashchange", () => load(location.hash)); // a link that was opened here; ours change it silently
addEventListener("pagehide", () => flush());

load(location.hash);
meet();
