import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroprompt.coherence import (
    MEDIA,
    concepts,
    concepts_in,
    contradictions,
    controls,
    fits_anything,
    fits_subject,
    forbidden_for,
    group_of,
    groups_in,
    is_understood,
    is_word,
    medium_of,
    repeated_groups,
    subjects_of,
    table,
    unknown_words,
)
from neuroprompt.decoding.constraints import occurrences
from neuroprompt.modifiers import spelling_key

MEDIA_NAMED = {
    "pencil sketch of a lighthouse": {"pencil"},
    "simple pencil-sketch of an apple": {"pencil"},
    "a fox, Watercolor on paper": {"watercolour"},
    "watercolour of a fox": {"watercolour"},
    "pixel art spaceship": {"pixel art"},
    "16-bit knight sprite": {"pixel art"},
    "flat vector icon of a bell": {"flat vector", "icon"},
    "logo for a bakery": {"logo"},
    "bakery logo": {"logo"},
    "a sticker of a cat": {"sticker"},
    "oil painting of a ship": {"oil"},
    "portrait of a sailor, oil on canvas": {"oil"},
    "photo of a red car": {"photograph"},
    "35mm film photograph of a diner": {"photograph"},
    "movie still of a chase": {"film still"},
    "a castle, octane render": {"3d render"},
    "a castle, rendered in Unreal Engine 5": {"3d render"},
    "low-poly mountain": {"low poly"},
    "anime girl under a cherry tree": {"anime"},
    "claymation dog": {"clay"},
    "origami crane": {"paper craft"},
    "stained glass window of a lion": {"stained glass"},
    "woodcut of a raven": {"woodcut"},
    "line art of a rose": {"line art"},
    "charcoal drawing of hands": {"charcoal"},
    "concept art of a tank": {"concept art"},
    "graffiti of a tiger": {"graffiti"},
    # words that name a medium, and do not say what the picture is
    "a woman holding a photo": set(),
    "a man with a sketch in his hand": set(),
    "kitchen with a blender on the counter": set(),
    "a girl standing next to a statue": set(),
    "a boy on a horse": set(),
    "the art of war": set(),
    "a vase of flowers on a piano": set(),
    "": set(),
}

CONTRADICT = [  # most of them of policies' rewrites, read as a new user
    "simple pencil sketch of an apple, cinematic lighting",
    "simple pencil sketch of an apple, 8k",
    "pixel art spaceship, ultra realistic",
    "flat vector icon of a bell, hyper realistic",
    "watercolor fox, octane render",
    "watercolor fox, photorealistic",
    "ink drawing of a heron, 4k",
    "pencil sketch of a fox, unreal engine",
    "photo of a mug, oil on canvas",
    "oil painting of a ship, octane render",
    "anime girl, 35mm photograph",
    "line art of a rose, bokeh",
    "logo for a bakery, highly detailed",
    "minimalist poster, intricate details",
    "claymation dog, pixel art",
    "woodcut of a raven, photorealistic",
    "stained glass lion, photorealistic",
    "black and white portrait, vibrant colors",
    "a lake at night, sunny day",
    "close up of a bee, wide shot",
    "a cute kitten, horror",
    "muted colors, vivid colors",
    "low angle, bird's eye view",
    "a vase, white background, black background",
    "symmetrical gate, asymmetrical",
    "a serene garden, explosion",
    "soft lighting, harsh lighting",
    "manga page of a duel, octane render",
    "portrait of a queen, by alphonse mucha, octane render",
    "painting of a god, unreal engine",
    "photo of a llama, illustration",
    "a llama, soft focus, sharp focus",
]
AGREE = [
    "a pencil sketch of an apple, white background, line art",
    "photo of a mug, studio lighting, 85mm, bokeh",
    "oil painting of a ship, impasto, by rembrandt",
    "pixel art spaceship, 16-bit, isometric, vibrant colors",
    "3d render of a robot, octane render, 8k, volumetric lighting",
    "anime girl, studio ghibli, vibrant colors",
    "watercolor fox, soft colors, ink lines",
    "photo of a marble statue, 4k",
    "concept art of a tank, digital painting, matte painting",
    "a boy on a horse, highly detailed, 8k, cinematic lighting",
    "flat vector icon of a bell, minimalist, white background",
    "woodcut of a raven, black and white",
    "comic book cover of a hero, vibrant colors, dynamic pose",
    "claymation dog, stop motion, soft lighting",
    "a lake at night, moonlight, starry sky",
]


@pytest.mark.parametrize("text", MEDIA_NAMED, ids=str)
def test_media_are_named_as_a_person_would(text):
    assert medium_of(text) == MEDIA_NAMED[text]


@pytest.mark.parametrize("text", CONTRADICT)
def test_contradictions_are_found(text):
    assert contradictions(text)


@pytest.mark.parametrize("text", AGREE)
def test_what_goes_together_is_no_contradiction(text):
    assert not contradictions(text)


@pytest.mark.parametrize(
    "modifiers",
    [
        ["4k", "8k", "UHD", "4k resolution", "in 8k", "ultra-hd", "high resolution"],
        ["highly detailed", "high detail", "hyper-detailed", "(Ultra Detailed:1.2)", "very highly detailed"],
        ["octane render", "octane", "rendered in octane", "unreal engine 5"],
        ["trending on artstation", "artstation", "artstation HQ"],
        ["sharp focus", "sharp", "very sharp"],
        ["masterpiece", "award-winning", "a masterpiece"],
        ["cinematic lighting", "cinematic light", "dramatic lighting"],
        ["by alphonse mucha", "Alphonse Mucha", "art by mucha", "in the style of alphonse mucha"],
    ],
)
def test_modifiers_that_say_the_same_have_one_group(modifiers):
    groups = {group_of(modifier) for modifier in modifiers}
    assert len(groups) == 1 and None not in groups
    assert repeated_groups("a cat, " + ", ".join(modifiers))[groups.pop()] == modifiers


@pytest.mark.parametrize(
    ("modifier", "groups"),
    [
        ("highly detailed 8k", {"highly detailed", "8k"}),
        ("unreal engine 5 rendered", {"octane render"}),
        ("4k uhd image", {"8k"}),
        ("art by alphonse mucha and klimt", {"alphonse mucha", "gustav klimt"}),
        ("dark and moody atmosphere", {"dark", "atmospheric"}),
        ("a castle at night", {"night"}),
        ("a boy on a horse", set()),
    ],
)
def test_a_modifier_may_say_several_things(modifier, groups):
    assert groups_in(modifier) == groups
    for group in groups:
        assert group in repeated_groups(f"a cat, {modifier}, {group}")


def test_light_of_two_kinds_is_enough():
    lit = ["cinematic lighting", "god rays", "green light"]
    assert not repeated_groups("a cat, " + ", ".join(lit[:2]))
    assert repeated_groups("a cat, " + ", ".join(lit)) == {"lighting": lit}


@pytest.mark.parametrize("modifier", ["", "a boy on a horse", "mushroom", "by nobody at all", "xyzzy"])
def test_other_texts_have_no_group(modifier):
    assert group_of(modifier) is None


def test_groups_of_different_things_are_different():
    different = ["8k", "highly detailed", "octane render", "sharp focus", "cinematic lighting", "watercolor", "anime"]
    assert len({group_of(m) for m in different}) == len(different)
    assert not repeated_groups("a cat, " + ", ".join(different))


def test_exclusion_is_mutual_and_never_of_oneself():
    for name, concept in concepts().items():
        assert name not in concept.excludes
        assert all(name in concepts()[other].excludes for other in concept.excludes)


def test_the_tables_agree_with_themselves():
    """No phrase names two media that exclude each other, and every phrase is found in a text."""
    for concept in concepts().values():
        for phrase in concept.phrases:
            assert concept.name in concepts_in(f"a thing, {phrase}"), (concept.name, phrase)
            assert not contradictions(phrase), (concept.name, phrase)


def test_what_is_forbidden_is_what_contradicts():
    forbidden = forbidden_for("a pencil sketch of an apple")
    for phrase in [
        "8k",
        "octane",
        "photorealistic",
        "photo-realistic",
        "oil",
        "bokeh",
        "hyper-realistic",
        "detailed eyes",
    ]:
        assert any(next(occurrences(phrase, f), None) for f in forbidden), phrase
    for phrase in ["graphite", "white background", "line art", "sketchbook", "highly detailed", "black and white"]:
        assert not any(next(occurrences(phrase, f), None) for f in forbidden), phrase
    assert forbidden_for("boy") == []


@pytest.mark.parametrize(
    "text", ["photorealistic pixel art of a cat", "pencil sketch, octane render", "a cute horror doll"]
)
def test_what_a_text_says_itself_is_never_forbidden(text):
    assert not any(next(occurrences(text, phrase), None) for phrase in forbidden_for(text))


words = st.sampled_from([p for c in concepts().values() for p in (*c.phrases, *c.weak)])


@given(st.lists(words, min_size=1, max_size=4), st.sampled_from(["a cat", "an apple", "", "portrait of a queen"]))
def test_a_text_that_avoids_what_is_forbidden_contradicts_nothing(modifiers, subject):
    text = subject
    for modifier in modifiers:
        longer = ", ".join(filter(None, [text, modifier]))
        if contradictions(longer):
            allowed = not any(next(occurrences(modifier, phrase), None) for phrase in forbidden_for(text))
            assert not allowed or contradictions(modifier), (text, modifier)
            return
        text = longer


@pytest.mark.parametrize("concept", concepts().values(), ids=lambda concept: concept.name)
def test_every_phrase_that_a_concept_excludes_is_forbidden(concept):
    for said in concept.phrases[:1] + concept.weak[:1]:
        forbidden = set(forbidden_for(f"a cat, {said}"))
        for name in concept.excludes:
            for phrase in (*concepts()[name].phrases, *concepts()[name].weak):
                if not any(f in phrase and next(occurrences(phrase, f), None) for f in forbidden):  # `in` is quicker
                    assert contradictions(phrase) or not contradictions(f"a cat, {said}, {phrase}"), (said, phrase)


@given(st.text(max_size=80))
def test_any_text_can_be_asked_about(text):
    medium_of(text), contradictions(text), repeated_groups(text), forbidden_for(text), unknown_words(text)
    assert controls(text) in ("", *MEDIA)
    assert all(phrase for phrase in forbidden_for(text))


def test_case_hyphens_and_brackets_make_no_difference():
    for text in ["(Pencil-Sketch:1.2) of a fox, [8K]", "PENCIL SKETCH of a fox, 8 k"]:
        assert contradictions(text) == [("pencil sketch", "8k")]


def test_modifiers_of_persons_do_not_fit_things():
    assert subjects_of("portrait of an old fisherman") >= {"person"}
    assert subjects_of("two red foxes in the snow, octane") == {"creature"}
    assert not fits_subject("detailed eyes", "a bowl of strawberries")
    assert not fits_subject("actor", "a single pear on a plate")
    assert not fits_subject("fashion photography", "goldfish in a bowl")
    assert fits_subject("detailed eyes", "a fox in the snow")
    assert fits_subject("perfect face", "portrait of a queen")
    assert fits_subject("perfect face", "xyzzy")
    assert fits_subject("cinematic lighting", "a bowl of strawberries")


def test_words_that_nobody_knows():
    assert unknown_words("a castle, 4k, octane render, f/1.8, 35mm, d&d, art-deco") == []
    assert unknown_words("post-produ van gogh, sharp foc, yawning kitte") == ["produ", "foc", "kitte"]
    assert unknown_words("a shoggoth, xyzzy", known=["Xyzzy of the shoggoth"]) == []
    assert unknown_words("a sign saying 'plz conserve', 8k", known=["a sign saying 'plz conserve'"]) == []
    assert is_word("rutkowski") and not is_word("rutkowski", in_dictionary=True)


@pytest.mark.parametrize(
    ("text", "medium"),
    [
        ("Ölgemälde von einem Haus am See", "oil"),
        ("une maison, peinture à l'huile", "oil"),
        ("acuarela de un gato negro", "watercolour"),
        ("dibujo a lápiz de un caballo", "pencil"),
        ("dibujos animados de un gato", "cartoon"),
        ("disegno a matita di una mela", "pencil"),
        ("foto de um cão na praia", "photograph"),
        ("Bleistiftzeichnung einer Katze", "pencil"),
        ("РИСУНОК карандашом, старый дом", "pencil"),
        ("логотип кофейни", "logo"),
        ("πίνακας ζωγραφικής", "painting"),
        ("لوحة زيتية لقطة", "oil"),
        ("ציור שמן של בית", "oil"),
        ("बिल्ली, तैल चित्र", "oil"),
        ("水彩画の猫", "watercolour"),
        ("一只猫的油画", "oil"),
        ("고양이 수채화로", "watercolour"),
    ],
)
def test_media_are_known_in_other_languages(text, medium):
    """So that nothing is added that contradicts them."""
    assert medium in concepts_in(text) and controls(text) == concepts()[medium].family
    assert contradictions(f"{text}, 3d render") or concepts()[medium].family != "drawing"


def test_the_table_of_languages_agrees_with_the_others():
    """Every word names what its row says, or a medium that it is part of, and is none that English prompts need."""
    for name, words in table("languages.tsv"):
        for word in words.split(" | "):
            assert name == "not English" or name in concepts_in(word), word
            assert name == "not English" or not is_word(spelling_key(word), in_dictionary=True), word
    assert not concepts_in("プロゴルファー") and not concepts_in("ロココ")  # without accents they hold ロコ, "logo"


@pytest.mark.parametrize(
    "text",
    ["a fox", "RED FOX IN THE SNOW", "pikachu", "portriat of a womn", "Zorblax the Destroyer", "(fox:1.2)",
     "LA skyline", "https://example.com/un/chat.png a red fox", "<lora:qwertz:1> a red fox",
     "<b>a red fox</b>", "富士山 at sunset"],
)  # fmt: skip
def test_english_is_understood(text):
    assert is_understood(text)


@pytest.mark.parametrize(
    "text",
    ["ein roter Fuchs im Wald", "un chat noir sur un toit", "una mujer en un jardín", "um gato preto no telhado",
     "un gatto rosso su una sedia", "czerwony lis w lesie", "en röd räv i skogen", "рыжая лиса", "قطة على كرسي",
     "富士山", "🦊", "asdf qwer", "Ölgemälde von einem Haus am See", "!!!", "https://example.com/fox.png"],
)  # fmt: skip
def test_other_languages_and_random_keys_are_not(text):
    assert not is_understood(text)


def test_what_fits_anything_names_nothing():
    for modifier in ["highly detailed", "8k", "sharp focus", "a masterpiece", "soft lighting"]:
        assert fits_anything(modifier), modifier
    for modifier in ["golden hour", "portrait of a woman", "detailed face", "cute", "digital painting", "photo",
                     "oil on canvas", "fantasy", "by van gogh", "a castle"]:  # fmt: skip
        assert not fits_anything(modifier), modifier
    assert fits_anything("oil on canvas", "paint") and not fits_anything("oil on canvas", "drawing")
    assert not fits_anything("oil painting of a woman", "paint")


def test_control_is_the_family_of_the_medium_named_first():
    assert controls("a fox, watercolor, oil painting") == "paint"
    assert controls("pixel art spaceship") == "pixel"
    assert controls("a boy on a horse, 8k") == ""
