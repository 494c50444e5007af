#!/usr/bin/env python
"""Build `neuroprompt/modifiers/*.txt`: what terms each category of modifiers has, and how often people use them.

    python -m training.embedded.build_modifiers --sources DIR --prompts prompts.parquet --output neuroprompt/modifiers

Terms come from published lists (`--sources` holds them under the names in `SOURCES`) and from the comma segments of
real prompts (`--prompts`: a column `prompt`). Who decides the category of a term, the first that knows it:

1. NeuroPrompts' own lists, as published (also where one may think otherwise: "landscape" is a perspective);
2. the lists in `modifiers/` beside this file, which are curation: terms that people use, sorted by hand;
3. the published lists of artists, mediums and movements;
4. the patterns below, over Lexica's keywords and the frequent segments of prompts: "… lighting" is a vibe.

Segments that none of them knows stay out. Counts are those of NeuroPrompts where it has the term (and they can be the
term's: see `within_ten_times`); for all others the number of prompts that hold the term on word boundaries, times one
factor that takes this corpus to DiffusionDB: the median ratio over the terms that have both. The result depends on the
input files alone. Two minutes on one core for 1.6 million prompts.
"""

import csv
import json
import os
import re
import statistics
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import pyarrow.parquet as pq
import typer
from rich.progress import track

from neuroprompt.modifiers import CATEGORIES, spelling_key, unaccented

SOURCES = {
    "neuroprompts": "neuroprompts_category_counts.json",
    "lexica": "lexica_keyword_counts.csv",
    "artists": "clip_interrogator_artists.txt",
    "mediums": "clip_interrogator_mediums.txt",
    "movements": "clip_interrogator_movements.txt",
}

HEADER = """\
# {title}: {size:,} terms, the most frequent first; made by training/embedded/build_modifiers.py, do not edit by hand.
# Columns, by tabs: DiffusionDB prompts that hold the term; the term; `first` if it is to be suggested before the
# others; other spellings, by " | ".
# Counts: those of {published} terms are NeuroPrompts'; the others are the prompts among {prompts:,} of the Stable
# Diffusion beta that hold the term, times {scale:.3f} (the median ratio of both over {common} terms).
# Sources: NeuroPrompts (Rosenman et al. 2024, IntelLabs/multimodal_cognitive_ai, MIT); Lexica keywords of "Prompt
# Stealing Attacks Against Text-to-Image Generation Models" (Shen et al. 2024, verazuo/prompt-stealing-attack,
# CC BY 4.0; selected and counted anew); clip-interrogator (pharmapsychotic, MIT); prompts of the Stable Diffusion
# beta, as DiffusionDB has them (Wang et al. 2023, CC0 1.0).
"""

MIN_SEGMENTS = 20  # a pattern takes a segment of prompts that occurs at least this often…
MIN_KEYWORDS = 15  # …or a keyword that Lexica counts as often
MIN_PROMPTS = 2  # a term from no published list of NeuroPrompts' that fewer prompts hold is left out
LONGEST = 5  # words in a term found by pattern

SEGMENT_END = re.compile(r"""[,;:|!?()\[\]{}<>"“”*]+|\.(?!\s?\d)""")

# Never in a vocabulary, whatever a source says.
BLOCKED = re.compile(
    r"\b(?:sex\w*|sensual\w*|seducti\w*|erotic\w*|nud\w+|naked|topless|porn\w*|hentai|fetish\w*|lewd|nsfw|ecchi|boob\w*"
    r"|breast\w*|bikini|lingerie|busty|homoerotic|giantess|pin ?ups?|yandere|furry|fursona|futanari|loli\w*|shota\w*"
    r"|bondage|bdsm|hitler|nazi\w*|trump|putin|tom of finland|milo manara|sorayama|penis|vagina\w*|butt|ass)\b"
)

# --- patterns: what decides for the rest -------------------------------------------------------------------------


def one_of(*texts: str) -> str:
    """A regular expression for any of the comma-separated expressions."""
    return "(?:" + "|".join(text for part in texts for text in split(part)) + ")"


def split(texts: str) -> Iterator[str]:
    return (text for text in (" ".join(part.split()) for part in texts.split(",")) if text)


_DEGREE = one_of("""
    very, ultra, super, extremely?, highly?, hyper, insanely?, incredibl[ey], really, absolutely, most, more, extra,
    mega, so, perfect, perfectly, beautiful, beautifully, amazing, amazingly, great, good, excellent, epic,
    fantastic, stunning, gorgeous, intense
""")
_POLISH = one_of("""
    detailed, hyperdetailed, intricate, quality, high, resolution, realistic, photorealistic, hyperrealistic,
    shaded, coherent, masterful
""")
_BOOSTED = one_of("""
    rich, intricate, fine, finely, sharp, crisp, clear, clean, realistic, professional, photographic, micro, tiny,
    small, max, maximum, full, uhd, hd, 4k, 8k, 16k, smooth, complex, insane, ornate, exquisite, elegant, cinematic,
    lots of
""")
_BOOSTERS = one_of("""
    details?, detailed, detailing, resolution, definition, quality, (?:photo|hyper|ultra)?realistic,
    (?:hyper|ultra)realism, sharpness, hd, uhd, hdr, hq, [248]k, 16k, 32k, crisp, intricate, coherent, complexity
""")
_ENGINE = one_of("""
    octane, unreal, unreal engine, blender, cycles, v ?ray, redshift, arnold, houdini, keyshot, cinema 4d, unity,
    cryengine, frostbite
""")
_FRAME = one_of(r"""
    wide, wider, long, short, medium, mid, middle, full, half, whole, body, low, high, close, closeup, up, top,
    down, out, \d, bottom, side, front, frontal, back, rear, far, distant, aerial, bird'?s?, birds, eye, worm'?s?,
    worms, level, ground, from, dutch, canted, tilted, tilt, shift, macro, micro, telephoto, tele, zoom, zoomed,
    fisheye, fish, anamorphic, prime, on, establishing, tracking, crane, drone, overhead, shoulder, point, one, two,
    three, first, third, person, isometric, camera, orthographic, axonometric, exploded, panoramic, waist, head,
    face, facial, headshot, bust, profile, quarter, interior, exterior, scenic, shallow, deep, narrow, soft, sharp,
    sigma, canon, nikon, sony, petzval, helios, action, hero, film, cinema, vertical, horizontal, symmetrical,
    centered, straight, street, satellite, upward, downward, lower, upper, torso, length, curved, forced, portrait,
    cinematic, dramatic, dynamic, \d+mm, [123]/4, f/[\d.]+, angle, ultrawide, superwide, microscope
""")
_FRAMED = one_of("""
    shot, angle, view, viewpoint, lens, lenses, perspective, close ?up, camera angle, depth of field, field of view,
    framing, point of view, pov, focal length, aperture, portrait, focus, composition, dof, pose
""")
_BACKGROUND = one_of(r"""
    blank, plain, solid, simple, blurr(?:y|ed), black, white, gr[ae]y, dark, light, neutral, gradient, minimal\w*,
    empty, clean, detailed, intricate, bokeh, blue, red, green, pink, yellow, purple, orange, studio, monochrome
""")
_LIT = one_of("""
    lighting, lights?, lit, backlighting, backlit, glow, shadows?, palette, colou?rs, colou?r scheme, colou?r
    grading, colou?r palette, tones?, hues?, mood, atmosphere, ambien[ct]e, vibes?, illumination, rays, fog, mist,
    haze, sunset, sunrise
""")
_NOT_LIT = one_of(
    "hair, eyes?, dress, skin, armou?r, flowers?, clothes, and, by, in, of, with, traffic, city, street, koi",
)
_PICTURE = one_of("""
    paintings?, drawings?, sketch, photos?, photograph, photography, photoshoot, illustrations?, engraving, etching,
    woodcut, lithograph, print, sculpture, statue, statuette, figurine, poster, book cover, album cover, magazine
    cover, artwork, comic, comic book, graphic novel, mural, tattoo, tattoo design, sticker, logo, movie still, film
    still, still frame, screenshot, wallpaper, card, sheet, 3d model, tapestry, diagram, blueprint, pastel, gouache,
    watercolou?r
""")
_NOT_PICTURE = one_of("by, with, his, her, an?, and, of, on, in, winning, focus")

PATTERNS = {
    category: re.compile("|".join(patterns))
    for category, patterns in {
        "perspective": (
            rf"(?:(?:{_DEGREE}|{_FRAME}|and|of|the) )+{_FRAMED}",
            r"(?:(?:sigma|canon|nikon|leica) )?\d+mm(?: lens| f/[\d.]+)?",
            r"f/[\d.]+|aperture f/?[\d.]+|iso ?\d+|1/\d+s?(?: shutter(?: speed)?)?",
            rf"(?:\w+ )?{_BACKGROUND} background",
            r"(?:viewed|seen|shot|taken|photographed) from (?:the |an? )?\w+",
        ),
        "vibe": (rf"(?!.*\b(?:{_NOT_LIT}|{_DEGREE}|{_POLISH})\b)(?:[a-z']+ ){{1,3}}{_LIT}",),
        "booster": (
            rf"(?:(?:{_DEGREE}|{_BOOSTED}) )*{_BOOSTERS}"
            r"(?: (?:hd|uhd|hdr|[48]k|resolution|render|quality|photo|3d))*",
            rf"(?:\w+ ){{0,2}}{_ENGINE}(?: \d)?(?: engine)?(?: \d)?(?: (?:render\w*|quality|8k|4k|style|hd))*",
            r"(?:trending|trend|featured|popular|best|favorites?|hot|top) (?:in|on|of) \w+"
            r"(?: (?:hq|hd|4k|8k|central|fanbox))*",
            r"(?:\w+ ){1,2}contest winner|award winning(?: \w+){0,2}|rendered (?:in|with|using) .+",
            r"(?:zbrush|adobe|photoshop|lightroom) \w+",
            r"(?:sony|canon|nikon|leica|hasselblad|fujifilm|kodak) \w+(?: \w+)?",
        ),
        "format": (
            rf"(?!.*\b(?:{_NOT_PICTURE}|{_DEGREE}|{_POLISH})\b)(?:[a-z']+ ){{1,2}}{_PICTURE}",
            r"\d+mm (?:film|photo|photograph|photography|film still|footage)",
        ),
        "style": (
            rf"(?!.*\b(?:by|hair|life|an?|this|{_DEGREE})\b)"
            r"(?:[a-z0-9']+ ){1,3}(?:style|aesthetic|artstyle|art style)",
            r"[a-z]+(?:punk|wave|core)|(?:[a-z]+ )?[a-z]{4,}(?:ism|esque)",
        ),
    }.items()
}

# Published names that are ordinary words, or no artist to name.
NOT_ARTISTS = {
    spelling_key(name)
    for name in split("""
        artist, art & language, ai-mitsu, bapu, baroque, bauhaus, bourgeois, chippy, constant, craola, ernst,
        felix-kelly, ino, lovecraft, menez, muggur, naza, puru, richter, sailor moon, winston churchill
    """)
}

# What a pattern takes and should not.
NOT_MODIFIERS = {
    spelling_key(term)
    for term in split("""
        2k aesthetic, 3d style, alcoholism, baptism, beautiful aesthetic, capitalism, communism, deep aesthetic,
        fascism, feminism, hardcore, in anime style, mechanism, metabolism, organism, perfectionism, photo
        journalism, prism, punk, racism, terrorism, tourism, tribalism, very aesthetic, y 2k aesthetic
    """)
}


class Term(NamedTuple):
    """A term on its way to a file: its category and how it is written there."""

    category: str
    text: str


def main(
    sources: Annotated[Path, typer.Option(help="Folder with the published lists.", exists=True, file_okay=False)],
    prompts: Annotated[
        Path, typer.Option(help="Parquet file of prompts (column `prompt`).", exists=True, dir_okay=False)
    ],
    output: Annotated[Path, typer.Option(help="Folder for the six files.")],
) -> None:
    """Build the six vocabularies of prompt modifiers."""
    missing = [name for name in SOURCES.values() if not (sources / name).is_file()]
    if missing:
        raise typer.BadParameter(f"{sources} has no {', '.join(missing)}")
    published = json.loads((sources / SOURCES["neuroprompts"]).read_text(encoding="utf-8"))
    texts = [repair(text) for text in track(read_prompts(prompts), "reading prompts")]
    segments, written = count_segments(track(texts, "reading segments"))
    with (sources / SOURCES["lexica"]).open(encoding="utf-8", newline="") as file:
        keywords = {row["keyword"]: int(row["count"]) for row in csv.DictReader(file)}

    terms, spellings = assign(sources, published, segments, keywords)
    every_spelling = {key: key for key in terms} | {s: key for key, ours in spellings.items() for s in ours}
    artists = {key for key, term in terms.items() if term.category == "artist"}
    occurrences = count_prompts(track(texts, "counting terms"), every_spelling, artists)

    known: Counter[str] = Counter()
    for category in CATEGORIES:
        for text, count in published[category].items():  # two published spellings of one artist are one
            known[every_spelling.get(spelling_key(text), spelling_key(text))] += count
    common = [known[key] / occurrences[key] for key in known if known[key] >= 100 and occurrences[key] >= 100]
    scale = statistics.median(common)
    listed = set(known)
    misread = {key for key in known if not within_ten_times(known[key], occurrences[key] * scale)}
    for key in sorted(misread):
        print(f"published count of {key!r} replaced: {known[key]:,} by {round(occurrences[key] * scale):,}")
    for key in misread:
        del known[key]
    first = {every_spelling.get(spelling_key(name), spelling_key(name)) for name in read_list("first")}

    output.mkdir(parents=True, exist_ok=True)
    for category in CATEGORIES:
        lines = []
        for key, term in terms.items():
            if term.category != category or (key not in listed and occurrences[key] < MIN_PROMPTS):
                continue
            count = known[key] if key in known else round(occurrences[key] * scale)
            text = term.text or written.get(key, key)
            also = sorted(spellings.get(key, ()))
            columns = [str(count), text, "first" if category == "artist" and key in first else "", " | ".join(also)]
            lines.append((-count, text, "\t".join(columns).rstrip("\t")))
        header = HEADER.format(
            title=category,
            size=len(lines),
            published=sum(key in known and term.category == category for key, term in terms.items()),
            prompts=len(texts),
            scale=scale,
            common=len(common),
        )
        write_text(output / f"{category}.txt", header + "".join(line + "\n" for _, _, line in sorted(lines)))
        print(f"{category}: {len(lines):,} terms")
    print(f"scale to DiffusionDB: {scale:.3f}, from {len(common)} terms")


def assign(
    sources: Path, published: dict[str, dict[str, int]], segments: Counter[str], keywords: dict[str, int]
) -> tuple[dict[str, Term], dict[str, set[str]]]:
    """Every term's category (normalised term → Term), and the other spellings of some (normalised both)."""
    terms: dict[str, Term] = {}
    taken: dict[str, str] = {}  # spelling → the term it stands for
    spellings: dict[str, set[str]] = defaultdict(set)
    for term, *others in (line.split(" | ") for line in read_list("spellings")):
        for other in others:
            if spelling_key(other) != spelling_key(term):
                taken.setdefault(spelling_key(other), spelling_key(term))

    def add(category: str, text: str, as_written: bool = True) -> None:
        key = spelling_key(text)
        if key and key not in terms and key not in taken and not BLOCKED.search(key):
            terms[key] = Term(category, text.lower() if as_written else "")

    for category in CATEGORIES:
        for text in published[category]:
            add(category, plain(text))
    for category in ("style", "format", "perspective", "booster", "vibe"):
        for text in read_list(category):
            add(category, text)
    names = [line.strip() for line in (sources / SOURCES["artists"]).read_text(encoding="utf-8").splitlines()]
    for name in [*read_list("artist"), *read_list("first"), *sorted(filter(None, names), key=str.casefold)]:
        if spelling_key(name) not in NOT_ARTISTS:
            add("artist", plain(name))
    for source, category in (("mediums", "format"), ("movements", "style")):
        for line in (sources / SOURCES[source]).read_text(encoding="utf-8").splitlines():
            add(category, re.sub(r"^an? | of$", "", plain(line.strip())))

    artists = {key for key, term in terms.items() if term.category == "artist"} | set(taken)
    candidates = Counter({s: n for s, n in segments.items() if n >= MIN_SEGMENTS})
    for keyword, count in keywords.items():
        if count >= MIN_KEYWORDS:
            candidates[spelling_key(keyword)] += count
    for key, _ in sorted(candidates.items(), key=lambda item: (-item[1], item[0])):
        words = key.split()
        holds_artist = any(
            " ".join(words[i:j]) in artists for i in range(len(words)) for j in range(i + 1, len(words) + 1)
        )
        if len(words) <= LONGEST and key.isascii() and not holds_artist and key not in NOT_MODIFIERS:
            for category, pattern in PATTERNS.items():
                if pattern.fullmatch(key):
                    add(category, key, as_written=False)
                    break
    for spelling, key in taken.items():
        if key in terms and spelling not in terms:
            spellings[key].add(spelling)
    return terms, dict(spellings)


def read_list(name: str) -> list[str]:
    """The lines of a list sorted by hand, without its comments."""
    lines = (Path(__file__).parent / "modifiers" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


def count_segments(texts: Iterable[str]) -> tuple[Counter[str], dict[str, str]]:
    """How often each comma segment after a prompt's first occurs (normalised), and its commonest way of writing."""
    raw: Counter[str] = Counter()
    for text in texts:
        raw.update(part.strip() for part in SEGMENT_END.split(text)[1:] if len(part) <= 50)
    segments: Counter[str] = Counter()
    ways: dict[str, Counter[str]] = defaultdict(Counter)
    for segment, count in raw.items():
        if key := spelling_key(segment):
            segments[key] += count
            ways[key][segment] += count
    written = {}
    for key, counts in ways.items():
        way = min(counts, key=lambda way: (-counts[way], way))
        written[key] = way if re.fullmatch(r"[a-z0-9' -]+", way) else key
    return segments, written


def count_prompts(texts: Iterable[str], spellings: dict[str, str], artists: set[str]) -> Counter[str]:
    """In how many prompts each term stands on word boundaries, in any of its full spellings.

    Short forms of a name ("bosch") are not counted for it, nor is a name that begins a longer one ("raphael lacoste").
    """
    by_first_word: dict[str, list[tuple[tuple[str, ...], str]]] = defaultdict(list)
    for spelling, key in sorted(spellings.items(), key=lambda item: (-len(item[0].split()), item)):
        words = tuple(spelling.split())
        if len(words) > 1 or spelling == key:
            by_first_word[words[0]].append((words, key))
    counts: Counter[str] = Counter()
    for text in texts:
        words = tuple(spelling_key(text).split())
        found = set()
        for i, word in enumerate(words):
            in_name = False
            for phrase, key in by_first_word.get(word, ()):  # the longest first
                if len(phrase) == 1 or words[i : i + len(phrase)] == phrase:
                    if key not in artists or not in_name:
                        found.add(key)
                    in_name |= key in artists
        counts.update(found)
    return counts


def within_ten_times(published: int, estimated: float) -> bool:
    """Whether a published count can be the term's. One that cannot counts a rare spelling only ("rené magritte": 2) or
    the inside of other words ("emo": 47,270, mostly "demon"). Small counts pass."""
    return max(published, estimated) < 100 or published < 10 * estimated < 100 * published


def read_prompts(path: Path) -> list[str]:
    return pq.read_table(path, columns=["prompt"]).column("prompt").to_pylist()


def repair(text: str) -> str:
    """Undo the spaces that Discord's bot put around hyphens and into numbers: "award - winning", "3 5 mm"."""
    text = re.sub(r"(?<=\w) - (?=\w)", "-", text.lower())
    text = re.sub(r"\b(\d) (?=\d\b)", r"\1", text)
    return re.sub(r"\b(\d+) (k|d|mm|px|mp|dpi)\b", r"\1\2", text)


def plain(name: str) -> str:
    """A name as people type it: lower case, no accents."""
    return unaccented(name.casefold())


def write_text(path: Path, text: str) -> None:
    """Write beside and rename, so that nobody sees half a file."""
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.chmod(beside, 0o644)
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise


if __name__ == "__main__":
    typer.run(main)
