"""Constrained decoding: what it costs beside beam search, and what its texts are worth beside other ways to get them.

    python benchmarks/decoding.py                            # the embedded policy
    python benchmarks/decoding.py --model random-50k         # a random GPT-2 (124 M) over a 50k vocabulary
    python benchmarks/decoding.py --prompts prompts.txt --count 200
    python benchmarks/decoding.py --sets 1000                # as many prompts, each with its own constraints
    python benchmarks/decoding.py --locked --model HuggingFaceTB/SmolLM2-135M-Instruct     # a chat model, words locked

Speed: `transformers`' own beam search, and ours with 0, 3 and 6 clauses and 20 forbidden phrases, on the same model
with the same beams and the same number of new tokens, in alternation; what counts are the ratios of the medians.
Sets: every prompt with its own 1 to 6 clauses and 10 forbidden phrases, in batches of 64, beside the same prompts in
the same search without constraints and with as many new tokens, batch by batch; then all of them again; and the same
with other sets beside a process that holds a core. Ratios are means over batches, of seconds and of the process's own
CPU seconds, which a shared machine changes less; intervals are bootstrap percentiles. The other tables are left out.
Quality: satisfied clauses, forbidden phrases and the log-probability of the result under the policy, for ours, for
drawing until the constraints are met (as dynamic prompts do), for appending what beam search has left out, and for
beam search that knows nothing of constraints. Prints Markdown tables.
Locked: a chat model answers, and every prompt's own words must stand in the answer, in any of their inflections; beside
`transformers`' beam search over the same chats, both with as many new tokens; the automata are made anew each time. The
other tables are left out.
"""

import argparse
import itertools
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from neuroprompt.decoding import Constraints, check
from neuroprompt.decoding.automaton import Automaton
from neuroprompt.decoding.neurologic import neurologic
from neuroprompt.decoding.vocabulary import CACHE_BYTES, Vocabulary
from neuroprompt.locked import lock
from neuroprompt.models import locate
from neuroprompt.modifiers import vocabulary as terms
from neuroprompt.statistics import bootstrap

FORBIDDEN = (
    "blurry|greg rutkowski|artgerm|low quality|bad anatomy|watermark|text|signature|jpeg artifacts|ugly|deformed|"
    "extra limbs|cropped|worst quality|nsfw|out of frame|duplicate|mutated|disfigured|trending on artstation"
).split("|")
THREE = {"artist": "alphonse mucha", "style": "baroque|art deco", "vibe": "cinematic"}
SIX = {**THREE, "format": "oil painting", "perspective": "wide angle", "booster": "highly detailed"}
CHOICES = {  # what the quality table draws its constraints from
    "artist": ["alphonse mucha", "claude monet", "ivan aivazovsky", "gustav klimt", "studio ghibli"],
    "style": ["baroque", "art deco", "impressionism", "cyberpunk", "art nouveau"],
    "format": ["oil painting", "watercolor", "concept art", "photograph", "3d render"],
    "perspective": ["wide angle", "close up", "portrait", "aerial view", "full body"],
    "booster": ["highly detailed", "sharp focus", "8k", "intricate", "masterpiece"],
    "vibe": ["cinematic", "dramatic lighting", "golden hour", "fog", "moody"],
}
OFTEN = ["trending on artstation", "artstation", "greg rutkowski", "artgerm", "highly detailed", "octane render", "4k"]
TRIES = 20
RETELL = "Rewrite the user's prompt for an image generator as one vivid sentence. Keep all of it."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded", help="embedded, a folder, a hub id, or random-50k")
    parser.add_argument("--prompts", type=Path, help="a file with a plain prompt a line; made up where it is missing")
    parser.add_argument("--count", type=int, default=200, help="prompts of the quality table; 0 leaves it out")
    parser.add_argument("--beams", type=int, default=5)
    parser.add_argument("--new-tokens", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=9, help="alternations of the speed table; 0 leaves it out")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--sets", type=int, default=0, help="prompts that have constraints of their own, alone")
    parser.add_argument("--busy-sets", type=int, default=128, help="of these prompts beside a busy core")
    parser.add_argument("--cache-bytes", type=int, default=CACHE_BYTES, help="of automata that are kept")
    parser.add_argument("--locked", action="store_true", help="what it costs a chat model to keep words, alone")
    parser.add_argument("--no-rejection", action="store_true", help="leave out the slowest of the quality table")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    if args.device == "cpu":
        torch.set_num_threads(1)
    model, tokenizer = load(args.model)
    model.to(args.device)
    prompts = args.prompts.read_text().splitlines() if args.prompts else made_up(args.seed)
    console = Console(soft_wrap=True)
    console.print(f"model {args.model}: {model.num_parameters() / 1e6:.1f} M parameters, {len(tokenizer)} tokens; "
                  f"torch {torch.__version__}, {args.device}\n")  # fmt: skip
    if args.locked:
        locked_table(console, model, tokenizer, prompts, args)
        return
    if args.sets:
        sets_table(console, model, tokenizer, prompts, args)
        return
    if args.rounds:
        build_table(console, tokenizer, model)
        speed_table(console, model, tokenizer, prompts, args)
    if args.count:
        quality_table(console, model, tokenizer, prompts[: args.count], args)


def load(name: str):
    if name != "random-50k":
        folder = locate(name, "policy")
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    else:
        tokenizer = clip_as_byte_level()
        torch.manual_seed(0)
        config = GPT2Config(vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=0)
        model = GPT2LMHeadModel(config)
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model.eval(), tokenizer


def clip_as_byte_level() -> PreTrainedTokenizerFast:
    """CLIP's 49,408 pieces (they come with open_clip) as a byte-level BPE of GPT-2's kind and size."""
    from open_clip.tokenizer import SimpleTokenizer

    clip = SimpleTokenizer()
    pieces = ["<|endoftext|>"]
    for piece in clip.encoder:  # "cat</w>" ends a word there; "Ġcat" begins one here
        pieces.append("Ġ" + piece.removesuffix("</w>") if piece.endswith("</w>") else piece)
    pieces = list(dict.fromkeys(pieces))
    index = {piece: i for i, piece in enumerate(pieces)}
    merges = [
        (a, b) for a, b in clip.bpe_ranks if not b.endswith("</w>") and a in index and b in index and a + b in index
    ]
    tokenizer = Tokenizer(models.BPE(vocab=index, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|endoftext|>")


def made_up(seed: int) -> list[str]:
    """Plain subjects."""
    who = "a boy|two cats|an old woman|a samurai|a dragon|a robot|an astronaut|a queen|a fox|a ship".split("|")
    what = "on a horse|playing chess|reading a book|in the rain|at the market|under a tree|by the fire".split("|")
    where = "|in a castle|in the mountains|on the moon|in tokyo|by the sea|at night|in winter".split("|")
    every = [" ".join(filter(None, parts)) for parts in itertools.product(who, what, where)]
    return random.Random(seed).sample(every, len(every))


def build_table(console: Console, tokenizer, model) -> None:
    size = model.get_output_embeddings().weight.shape[0]
    begin = time.perf_counter()
    vocabulary = Vocabulary(tokenizer, size)
    rows = [("vocabulary (once a tokenizer)", time.perf_counter() - begin)]
    everything = [tuple(terms(category)) for category in ("artist", "style")]
    sets = {
        "6 clauses, 20 forbidden": Constraints(**SIX, forbid=FORBIDDEN),
        f"the same and auto: artist ({len(everything[0])} phrases)": Constraints(
            **SIX, forbid=FORBIDDEN, auto="artist"
        ),
    }
    for name, wish in sets.items():
        clauses, times = wish.written, []
        for _ in range(5):
            begin = time.perf_counter()
            Automaton(vocabulary, clauses, wish.forbidden)
            times.append(time.perf_counter() - begin)
        rows.append((f"automaton: {name}", statistics.median(times)))
    table(console, ("build", "ms"), [(name, f"{1000 * seconds:.0f}") for name, seconds in rows])


def speed_table(console: Console, model, tokenizer, prompts: Sequence[str], args) -> None:
    rows = []
    for batch in args.batches:
        inputs = tokenizer(prompts[:batch], return_tensors="pt", padding=True).to(args.device)
        fixed = {"num_beams": args.beams, "max_new_tokens": args.new_tokens, "do_sample": False}
        fixed["min_new_tokens"] = args.new_tokens  # everyone writes as much

        def ours(wish, inputs=inputs, fixed=fixed):
            return lambda: model.generate(
                **inputs, **fixed, custom_generate=neurologic, constraints=wish, processing_class=tokenizer
            )

        ways = {
            "transformers": lambda inputs=inputs, fixed=fixed: model.generate(**inputs, **fixed),
            "ours, no constraints": ours(None),
            "ours, 3 clauses": ours(Constraints(**THREE, forbid=FORBIDDEN)),
            "ours, 6 clauses": ours(Constraints(**SIX, forbid=FORBIDDEN)),
        }
        rows += compared(batch, in_turns(ways, args.rounds, args.device))
    table(console, COMPARED, rows)


def locked_table(console: Console, model, tokenizer, prompts: Sequence[str], args) -> None:
    rows, end = [], model.generation_config.eos_token_id
    ends = [end] if isinstance(end, int) else list(end)
    vocabulary = Vocabulary.of(tokenizer, model.get_output_embeddings().weight.shape[0])
    for batch in args.batches:
        chats = [
            tokenizer.apply_chat_template(
                [{"role": "system", "content": RETELL}, {"role": "user", "content": prompt}],
                tokenize=False,
                add_generation_prompt=True,
            )
            for prompt in prompts[:batch]
        ]
        inputs = tokenizer(chats, return_tensors="pt", padding=True, add_special_tokens=False).to(args.device)
        fixed = {"num_beams": args.beams, "max_new_tokens": args.new_tokens, "do_sample": False}
        fixed["suppress_tokens"] = ends  # everyone writes as much
        wishes = [Constraints(require=lock(prompt).clauses, anywhere=True) for prompt in prompts[:batch]]

        def ours(constraints, inputs=inputs, fixed=fixed, batch=batch):
            search = {"custom_generate": neurologic, "processing_class": tokenizer, "counted": [[]] * batch}

            def write():
                vocabulary.automata.clear()  # as for prompts that nobody has asked before
                written = model.generate(**inputs, **fixed, **search, constraints=constraints)
                if torch.isin(written, torch.tensor(ends))[:, inputs["input_ids"].shape[1] :].any():
                    raise SystemExit(f"{args.new_tokens} new tokens are too few for the words: give --new-tokens more")

            return write

        ways = {
            "transformers": lambda inputs=inputs, fixed=fixed: model.generate(**inputs, **fixed),
            "ours, no constraints": ours(None),
            f"ours, {sum(len(w.clauses) for w in wishes) / batch:.1f} words locked": ours(wishes),
        }
        rows += compared(batch, in_turns(ways, args.rounds, args.device))
    table(console, COMPARED, rows)


COMPARED = ("batch", "way", "median s", "ratio", "middle half of the rounds' ratios")


def compared(batch: int, times: dict[str, list[float]]) -> list[tuple[str, ...]]:
    """Rows of a table with the columns `COMPARED`: the first way is what the others are compared with."""
    rows, first = [], next(iter(times.values()))
    for name, seconds in times.items():
        ratios = sorted(s / t for s, t in zip(seconds, first, strict=True))
        spread = f"{ratios[len(ratios) // 4]:.2f}–{ratios[-1 - len(ratios) // 4]:.2f}"
        median = statistics.median(seconds)
        rows.append((str(batch), name, f"{median:.3f}", f"{median / statistics.median(first):.2f}", spread))
    return rows


def sets_table(console: Console, model, tokenizer, prompts: Sequence[str], args) -> None:
    draw, rows = random.Random(args.seed), []
    automata = Vocabulary.of(tokenizer, model.get_output_embeddings().weight.shape[0]).automata
    _own_sets(model, tokenizer, prompts, draw, 2, args)  # warm up
    for name, count, busy in (("quiet", args.sets, 0), ("beside a busy core", args.busy_sets, 1)):
        if not count:
            continue
        with busy_cores(busy):
            spent = _own_sets(model, tokenizer, prompts, draw, count, args)  # (passes, batches, 2)
        speed = [f"{count / seconds:.1f}" for seconds in spent[:, :, 0].sum(1)]
        ratios = [bootstrap(each[:, kind] / spent[0, :, kind]) for each in spent[1:] for kind in (0, 1)]
        rows.append((name, *speed, *map(str, ratios)))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        kept, bound = (size / 2**20 for size in (automata.nbytes, args.cache_bytes))
        console.print(
            f"{name}: {count} sets, {args.new_tokens} new tokens each; {len(automata)} automata kept, {kept:.0f} MiB "
            f"of at most {bound:.0f}; the process's peak {peak:.2f} GiB"
        )
    console.print()
    head = ("prompts/s without", "first", "again", "first: time", "CPU time", "again: time", "CPU time")
    table(console, ("", *head), rows)


def _own_sets(model, tokenizer, prompts: Sequence[str], draw: random.Random, count: int, args) -> np.ndarray:
    """Seconds and CPU seconds of each batch without constraints, with sets that were never seen, and with them again.
    (3, batches, 2)"""
    known = {category: [term for term in terms(category) if term.count(" ") < 2] for category in CHOICES}
    prompts = list(itertools.islice(itertools.cycle(prompts), count))
    wishes = []
    for _ in prompts:
        required = {name: draw.choice(known[name]) for name in draw.sample(sorted(known), draw.randint(1, 6))}
        said = " ".join(required.values()).lower()
        wishes.append(Constraints(**required, forbid=[p for p in draw.sample(FORBIDDEN, 10) if p not in said]))
    fixed = {"num_beams": args.beams, "max_new_tokens": args.new_tokens, "min_new_tokens": args.new_tokens}

    def write(start: int, constraints: list[Constraints] | None) -> np.ndarray:
        inputs = tokenizer(prompts[start : start + 64], return_tensors="pt", padding=True).to(args.device)
        begin = np.array([time.perf_counter(), time.process_time()])
        model.generate(
            **inputs, **fixed, do_sample=False, custom_generate=neurologic, constraints=constraints,
            processing_class=tokenizer, token_budgets=[args.new_tokens] * len(inputs["input_ids"]),
            cache_bytes=args.cache_bytes,
        )  # fmt: skip
        return np.array([time.perf_counter(), time.process_time()]) - begin

    free, first, again = [], [], []
    for start in track(range(0, count, 64), description="sets", transient=True):
        free.append(write(start, None))
        first.append(write(start, wishes[start : start + 64]))
    for start in track(range(0, count, 64), description="again", transient=True):
        again.append(write(start, wishes[start : start + 64]))
    return np.array([free, first, again])


@contextmanager
def busy_cores(count: int) -> Iterator[None]:
    """As many processes that hold a core each."""
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


def in_turns(ways: dict[str, Callable], rounds: int, device: str) -> dict[str, list[float]]:
    times = {name: [] for name in ways}
    for turn in track(range(rounds + 1), description="speed", transient=True):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            if device != "cpu":
                torch.cuda.synchronize()
            if turn:  # the first is for warming up
                times[name].append(time.perf_counter() - begin)
    return times


def quality_table(console: Console, model, tokenizer, prompts: Sequence[str], args) -> None:
    draw = random.Random(args.seed)
    wishes = []
    for _ in prompts:
        chosen = {category: draw.choice(choices) for category, choices in CHOICES.items()}
        names = draw.sample(sorted(chosen), draw.choice([2, 3, 4]))
        required = {name: chosen[name] for name in names}
        forbidden = [term for term in OFTEN if term not in required.values()]
        wishes.append(Constraints(**required, forbid=draw.sample(forbidden, 3)))
    ways = {
        "ours": write_under_constraints,
        f"rejection ({TRIES} tries)": reject,
        "append what is missing": append,
        "avoid what is forbidden, append": avoid_and_append,
        "beam search": search_freely,
    }
    if args.no_rejection:
        del ways[f"rejection ({TRIES} tries)"]
    rows = []
    for name, way in ways.items():
        torch.manual_seed(args.seed)
        begin = time.perf_counter()
        texts = []
        for start in track(range(0, len(prompts), 8), description=name, transient=True):
            batch = slice(start, start + 8)
            texts += way(model, tokenizer, prompts[batch], wishes[batch], args)
        seconds = (time.perf_counter() - begin) / len(prompts)
        reports = [check(text, wish) for text, wish in zip(texts, wishes, strict=True)]
        clauses = sum(report.satisfied for report in reports) / sum(len(report.matches) for report in reports)
        whole = statistics.mean(report.satisfied == len(report.matches) for report in reports)
        forbidden = statistics.mean(bool(report.forbidden) for report in reports)
        values = log_probabilities(model, tokenizer, prompts, texts)
        error = statistics.stdev(values) / len(values) ** 0.5
        shares = [f"{share:.1%}" for share in (clauses, whole, forbidden)]
        rows.append((name, *shares, f"{statistics.mean(values):.2f} ± {error:.2f}", f"{seconds:.2f}"))
    head = ("way", "clauses satisfied", "prompts satisfied", "prompts with a forbidden phrase")
    table(console, (*head, "log-probability a token (± standard error)", "s a prompt"), rows)


def generate(model, tokenizer, prompts: Sequence[str], args, **kwargs) -> list[str]:
    inputs = tokenizer(list(prompts), return_tensors="pt", padding=True).to(model.device)
    ids = model.generate(**inputs, max_new_tokens=args.new_tokens, **kwargs)
    return [
        tokenizer.decode(row, skip_special_tokens=True, clean_up_tokenization_spaces=False).strip(" ,") for row in ids
    ]


def write_under_constraints(model, tokenizer, prompts, wishes, args) -> list[str]:
    search = {"custom_generate": neurologic, "constraints": wishes, "processing_class": tokenizer}
    return generate(model, tokenizer, prompts, args, num_beams=args.beams, do_sample=False, **search)


def search_freely(model, tokenizer, prompts, wishes, args) -> list[str]:
    return generate(model, tokenizer, prompts, args, num_beams=args.beams, do_sample=False)


def reject(model, tokenizer, prompts, wishes, args) -> list[str]:
    """Of up to `TRIES` samples the first that meets the constraints, or the one that meets most of them."""
    texts = []
    for prompt, wish in zip(prompts, wishes, strict=True):
        best, most = "", (-1, -1)
        for _ in range(TRIES):
            text = generate(model, tokenizer, [prompt], args, do_sample=True)[0]
            report = check(text, wish)
            if (value := (not report.forbidden, report.satisfied)) > most:
                best, most = text, value
            if report:
                break
        texts.append(best)
    return texts


def append(model, tokenizer, prompts, wishes, args) -> list[str]:
    texts = search_freely(model, tokenizer, prompts, wishes, args)
    return _with_what_is_missing(texts, wishes)


def avoid_and_append(model, tokenizer, prompts, wishes, args) -> list[str]:
    """The fairest way to append: what is forbidden is kept out by our search, what is required comes at the end."""
    texts = write_under_constraints(model, tokenizer, prompts, [Constraints(forbid=w.forbid) for w in wishes], args)
    return _with_what_is_missing(texts, wishes)


def _with_what_is_missing(texts: Sequence[str], wishes: Sequence[Constraints]) -> list[str]:
    return [
        ", ".join([text, *(c[0] for c, met in zip(wish.clauses, check(text, wish).matches, strict=True) if not met)])
        for text, wish in zip(texts, wishes, strict=True)
    ]


@torch.no_grad()
def log_probabilities(model, tokenizer, prompts: Sequence[str], texts: Sequence[str]) -> list[float]:
    """Each text's mean log-probability per token after its prompt, under the model left to itself."""
    values = []
    for prompt, text in zip(prompts, texts, strict=True):
        head = tokenizer(prompt)["input_ids"]
        tail = tokenizer(text.removeprefix(prompt), add_special_tokens=False)["input_ids"] or [tokenizer.eos_token_id]
        ids = torch.tensor([head + tail], device=model.device)
        log_probs = model(ids).logits[0, len(head) - 1 : -1].float().log_softmax(dim=-1)
        values.append(float(log_probs.gather(1, ids[0, len(head) :, None]).mean()))
    return values


def table(console: Console, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    console.print("| " + " | ".join(head) + " |", markup=False, highlight=False)
    console.print("|" + " --- |" * len(head), markup=False, highlight=False)
    for row in rows:
        console.print("| " + " | ".join(row) + " |", markup=False, highlight=False)
    console.print()


if __name__ == "__main__":
    main()
