// What is on the page, as plain data, and as the address's fragment, which no browser sends: the same text is the link
// that is shared, what a reload comes back to, and an entry of the history.
//
//   state = { prompt, wish: { artist: "", …, require: [], forbid: [] }, asking, variants, pictures, seed, ifBetter,
//     made }
//   asking = { model: "", for: "", negative: "", instruction: "", keep: [], free: false }
//   made = { at, original, seed, chosen, rewrites: [{ warning, negative, retold, verdict, pieces }] }
//   verdict = { accepted, reason }, or null where pictures were not asked
//   pieces = [{ gap, text, category, off }]
//
// The pieces of a rewrite follow the prompt; where it is retold they are all of it, and those of the category OWN are
// the user's words.

export const CATEGORIES = ["artist", "style", "format", "perspective", "booster", "vibe"];
/** In a selector: the policy picks a phrase of the kind itself. */
export const ANY = "any";
export const OWN = "own";
/** What is asked besides the wish, as texts. */
export const ASKED = ["model", "for", "negative", "instruction"];
export const MOST_SEED = 2 ** 32 - 1;

const HISTORY = "neuroprompt.history";
const MOST_ENTRIES = 50;
const MOST_CHARACTERS = 500_000;
/** Of each number the least, the most, and what it is otherwise. */
const NUMBERS = { variants: [1, 16, 1], pictures: [1, 8, 2], seed: [0, MOST_SEED, 0], ifBetter: [2, 16, 0] };

/** The wish as the server's routes take it. */
export function wishOf({ require, forbid, ...selected }) {
  const named = Object.entries(selected).filter(([, phrase]) => phrase && phrase !== ANY);
  return {
    ...Object.fromEntries(named),
    require,
    forbid,
    auto: CATEGORIES.filter((category) => selected[category] === ANY),
  };
}

// --- a rewrite ---------------------------------------------------------------------------------------------------

/** A variant that the server answered, in pieces: each a phrase, and what stands before it. */
export function piecesOf({ original, text, modifiers, warning, negative, kept, if_better }) {
  const pieces = kept ? retoldPieces(text, kept) : addedPieces(original, text, modifiers);
  const verdict = if_better?.pictures ? { accepted: if_better.accepted, reason: if_better.reason } : null;
  return { warning, negative, retold: Boolean(kept), verdict, pieces };
}

function addedPieces(original, text, modifiers) {
  const pieces = [];
  let rest = text.slice(original.length);
  for (const { text: phrase, category } of modifiers) {
    const at = rest.indexOf(phrase);
    if (at < 0) break;
    pieces.push({ gap: rest.slice(0, at), text: phrase, category, off: false });
    rest = rest.slice(at + phrase.length);
  }
  if (rest) pieces.push({ gap: "", text: rest, category: null, off: false });
  return pieces;
}

/** @param kept [start, end] of each part that is the user's, in characters of Unicode, which strings here do not count */
function retoldPieces(text, kept) {
  const characters = [...text];
  const isOwn = characters.map(() => false);
  for (const [start, end] of kept) isOwn.fill(true, start, end);
  characters.forEach((character, i) => (isOwn[i] ||= character === " " && isOwn[i - 1] && isOwn[i + 1]));
  const pieces = [];
  characters.forEach((character, i) => {
    if (i && isOwn[i] === isOwn[i - 1]) pieces.at(-1).text += character;
    else pieces.push({ gap: "", text: character, category: isOwn[i] ? OWN : null, off: false });
  });
  return pieces;
}

/** The text without what was left out; the first gap is the prompt's own ("a castle, " has its comma). */
export function textOf(original, { pieces, retold }) {
  if (retold) return pieces.map(({ text }) => text).join("");
  const kept = pieces.filter((piece) => !piece.off);
  return original + kept.map(({ gap, text }, i) => (i ? gap : pieces[0].gap) + text).join("");
}

/** As A1111's web UI reads it, and as the picture's file says it; the settings are those of the server's generator. */
export function a1111(text, unwanted, seed, generator, sampler) {
  const { steps, guidance, true_cfg, size } = generator?.config ?? {};
  const negative = negativeFor(generator, unwanted);
  const settings = {
    Steps: steps,
    Sampler: sampler,
    "CFG scale": decimal(true_cfg ?? guidance),
    "Distilled CFG Scale": true_cfg && decimal(guidance),
    Seed: seed,
    Size: size && `${size[0]}x${size[1]}`,
    Model: generator?.name,
  };
  const quoted = (value) => (/[,:\n]/.test(value) ? JSON.stringify(String(value)) : value);
  const said = Object.entries(settings).filter(([, value]) => value !== null && value !== undefined);
  const lines = [
    text,
    negative && `Negative prompt: ${negative}`,
    said.map(([k, v]) => `${k}: ${quoted(v)}`).join(", "),
  ];
  return lines.filter(Boolean).join("\n");
}

/** The negative prompt that a generator draws with: its own, and what else is unwanted; "" where it takes none. */
export function negativeFor(generator, unwanted) {
  if (generator?.takes_negative === false) return "";
  return [generator?.config.negative, unwanted].filter(Boolean).join(", ");
}

const decimal = (number) => (Number.isInteger(number) ? number.toFixed(1) : number);

// --- the fragment ------------------------------------------------------------------------------------------------

export function write(state) {
  const fields = new URLSearchParams();
  if (state.prompt) fields.set("prompt", state.prompt);
  for (const category of CATEGORIES) if (state.wish[category]) fields.set(category, state.wish[category]);
  for (const name of ["require", "forbid"]) for (const phrase of state.wish[name]) fields.append(name, phrase);
  for (const name of ASKED) if (state.asking[name]) fields.set(name, state.asking[name]);
  for (const phrase of state.asking.keep) fields.append("keep", phrase);
  if (state.asking.free) fields.set("free", "1");
  for (const [name, [, , otherwise]] of Object.entries(NUMBERS))
    if (state[name] !== otherwise) fields.set(name, state[name]);
  if (state.made) {
    const { at, original, seed, chosen, rewrites } = state.made;
    const rows = rewrites.map(({ warning, negative, retold, verdict, pieces }) => [
      writeSaid(warning ?? "", negative ?? "", Number(retold), verdict),
      ...pieces.map(({ gap, text, category, off }) => [gap, text, category ?? "", Number(off)]),
    ]);
    fields.set("made", JSON.stringify([at, original, seed, chosen, rows]));
  }
  return fields.toString();
}

/** Whatever somebody wrote into a link: what is no part of a state is left out. */
export function read(fragment) {
  const fields = new URLSearchParams(fragment.replace(/^#/, ""));
  const state = { prompt: fields.get("prompt") ?? "", wish: {}, made: readMade(fields.get("made")) };
  for (const category of CATEGORIES) state.wish[category] = fields.get(category) ?? "";
  for (const name of ["require", "forbid"]) state.wish[name] = fields.getAll(name).filter((phrase) => phrase.trim());
  state.asking = Object.fromEntries(ASKED.map((name) => [name, (fields.get(name) ?? "").trim()]));
  state.asking.keep = fields.getAll("keep").filter((phrase) => phrase.trim());
  state.asking.free = fields.get("free") === "1";
  for (const [name, [least, most, otherwise]] of Object.entries(NUMBERS)) {
    const number = Number(fields.get(name) ?? otherwise);
    state[name] = Number.isInteger(number) && number >= least && number <= most ? number : otherwise;
  }
  return state;
}

function readMade(json) {
  try {
    const [at, original, seed, chosen, rows] = JSON.parse(json);
    const rewrites = rows.map(([said, ...pieces]) => ({
      ...readSaid(said),
      pieces: pieces.map(([gap, text, category, off]) => ({
        gap: string(gap),
        text: string(text),
        category: [...CATEGORIES, OWN].includes(category) ? category : null,
        off: Boolean(off),
      })),
    }));
    if (!rewrites[chosen] || ![at, seed].every(Number.isSafeInteger)) return null;
    return { at, original: string(original), seed, chosen, rewrites };
  } catch {
    return null;
  }
}

/** What is said of a rewrite: its warning alone, in old links and of most. */
function writeSaid(warning, negative, retold, verdict) {
  if (verdict) return [warning, negative, retold, [Number(verdict.accepted), verdict.reason]];
  return negative || retold ? [warning, negative, retold] : warning;
}

function readSaid(said) {
  const [warning, negative, retold, verdict] = Array.isArray(said) ? said : [said, "", 0];
  return {
    warning: string(warning) || null,
    negative: string(negative) || null,
    retold: Boolean(retold),
    verdict: Array.isArray(verdict) ? { accepted: Boolean(verdict[0]), reason: string(verdict[1]) } : null,
  };
}

function string(value) {
  if (typeof value !== "string") throw new TypeError("no string");
  return value;
}

// --- the history: entries { at, title, fragment }, the last first --------------------------------------------------

export function entries() {
  try {
    const found = JSON.parse(localStorage.getItem(HISTORY)) ?? [];
    return found.filter(({ at, title, fragment }) => [title, fragment].every((x) => typeof x === "string") && at > 0);
  } catch {
    return [];
  }
}

/** Keep a state that holds a rewrite: as a new entry, or in the place of the one that was made with it. */
export function remember(state, isNew = false) {
  if (!state.made) return;
  const { at, original, rewrites, chosen } = state.made;
  const entry = { at, title: textOf(original, rewrites[chosen]), fragment: write(state) };
  const found = entries();
  const place = found.findIndex((other) => other.at === at);
  if (place >= 0) found[place] = entry;
  else if (isNew) found.unshift(entry);
  else return;
  let size = 0;
  keep(
    found
      .slice(0, MOST_ENTRIES)
      .filter(({ title, fragment }) => (size += title.length + fragment.length) <= MOST_CHARACTERS),
  );
}

export function forget(at) {
  keep(at === undefined ? [] : entries().filter((entry) => entry.at !== at));
}

function keep(found) {
  try {
    localStorage.setItem(HISTORY, JSON.stringify(found));
  } catch {
    // a browser that keeps nothing, or has no room: the page goes on without a history
  }
}
