// What judges of pictures are called here, and what each says, in words for people.

const JUDGES = {
  pickscore: ["PickScore", "How likely people are to prefer it, for the prompt"],
  hps: ["HPS", "How likely people are to prefer it, for the prompt"],
  image_reward: ["ImageReward", "How likely people are to prefer it, for the prompt"],
  aesthetic: ["Aesthetic", "How much people like the look of it, whatever the prompt"],
  clip: ["CLIP", "How close picture and prompt are"],
  vqa: ["Match by question", "How sure a model that reads the picture is that it shows the prompt; 1 is certain (vqa)"],
  echo: ["Match by description", "How readily a model that describes pictures says the prompt; 0 is the most (echo)"],
  atoms: ["Details", "How much of what the prompt names the picture has, asked thing by thing; 1 is all of it (atoms)"],
  length: ["Brevity", "The shorter the prompt that was drawn, the more: minus its tokens of CLIP (length)"],
  artefacts: ["Cleanness", "How free it is of casts, clipping and noise; 0 is the most (artefacts)"],
};

const known = (name) => JUDGES[name.split("[")[0]];

/** A judge's name: "clip[ViT-L-14:openai]" has its model still. */
export function labelOf(name) {
  const [base] = name.split("[");
  return (known(name)?.[0] ?? base) + name.slice(base.length);
}

/** What its scores say, if that is known here. */
export function titleOf(name) {
  return known(name)?.[1];
}

/** A server's line, with the judges in it as they are called here. */
export function named(text) {
  return text.replace(/\b\w+\b/g, (word) => JUDGES[word]?.[0] ?? word);
}
