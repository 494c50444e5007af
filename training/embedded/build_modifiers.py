#!/usr/bin/env python
"""Build `neuroprompt/modifiers/*.txt`: what terms each category of modifiers has, and how often people use them.

    python -m training.embedded.build_modifiers --sources DIR --prompts prompts.parquet --output neuroprompt/modifiers

Terms come from published lists (`--sources` holds them under the names in `SOURCES`) and from the comma segments of
real prompts (`--prompts`: a column `prompt`). Who decides the category of a term, the first that knows it:

1. NeuroPrompts' own lists, as published (also where one may think otherwise: "landscape" is a perspective);
2. the lists below, which are curation: terms that people use, sorted by hand;
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

# --- curation: terms sorted by hand ------------------------------------------------------------------------------

CURATED = {
    "style": """
        16-bit, 1920s, 1930s, 1940s, 1950s, 1960s, 1970s, 1980s, 1990s, 2000s, 3d anime, 50s, 60s, 70s, 8-bit, 80s,
        90s, abstract, aestheticism, african art, afrofuturism, akira, alla prima, alternate history, american
        gothic, ancient egyptian, animated, animation, anime aesthetic, anime art, anime art style, anime key
        visual, anime style, arabesque, arcane, arcane style, archviz, art brut, art noveau, art style, arte povera,
        arthouse, atompunk, avant-garde, aztec, baroque painting style, bauhaus style, biblical, bio-mechanical,
        biomechanical, biomorphic, biopunk, blade runner 2049, bloodborne, body horror, breath of the wild, bronze
        age, brutalism, brutalist, byzantine, byzantine art, cartoon style, cartoony, cassette futurism, cel shaded,
        cel shading, cell shaded, cell shading, celshading, celtic, chibi, chinese style, chinoiserie, cinema
        verite, clockpunk, comic book style, comic style, conceptual art, contemporary art, cosmic horror,
        cosmicism, cottagecore, cubist, cyber punk, cybergoth, cybernetic, cybernetics, cyberpop, cyberpunk 2077,
        cyberpunk style, cybertronic, d&d, dada, dadaist, dark academia, dark art, dark fantasy, dark souls, dark
        surrealism, darksynth, dc comics, de stijl, decopunk, dieselpunk, digital cubism, dnd, dragon ball,
        dreamcore, dreampunk, dungeons and dragons, dutch golden age, eco-brutalism, ecopunk, edwardian, egyptian,
        elden ring, elder scrolls, eldritch, evangelion, expressionist, fairy tale, fairycore, fairytale, fallout,
        fantastic realism, fantasy art, fantasy style, fauvist, film noir, final fantasy, flat design, flat shading,
        flemish baroque, flowerpunk, folk art, folk horror, folklore, fractal art, fractalism, french comic style,
        frutiger aero, futurist, game of thrones, generative art, geometric, geometric abstraction, georgian, ghost
        in the shell, glitch, glitch art, glitchcore, goblincore, googie, goth, gothic, gothic art, gothic horror,
        graffiti, graffiti art, graffiti style, graphic style, greco-roman, greek mythology, grimdark, grindhouse,
        grunge, grunge aesthetic, hard science fiction, hard surface, haute couture, hearthstone, hellenistic,
        heroic fantasy, high fantasy, high fashion, high tech, horror, horror art, horror movie, horror theme,
        horror themed, horrorcore, hyper surrealism, hypermaximalist, hypermodern, illustration style, impasto,
        impressionism, impressionistic, industrial, industrial design, isekai, islamic art, italian futurism,
        japanese style, japanese woodblock, japonisme, jrpg, jugendstil, kaiju, kawaii, kinetic art, kintsugi,
        kitsch, knolled, league of legends, liminal space, lord of the rings, lovecraftian, lovecraftian horror, low
        poly, lowbrow, lowpoly, lunarpunk, magic realism, magic the gathering, magic the gathering art style,
        magical girl, magical realism, manga style, mannerism, marvel, mass effect, maximalism, maximalist, mayan,
        mecha, medieval, medieval fantasy, mediterranean, memphis, metabolism, mexican muralism, mid-century modern,
        minimal, minimalist, minimalistic, modern, modern art, modern art deco, modernism, modernist, monumental,
        mughal, mythological, mythology, naive art, naruto, native american art, neo-expressionism, neo-futurism,
        neo-gothic, neo-noir, neo-rococo, neo-surrealism, neo-tokyo, neoclassical, neoplasticism, new wave, noir,
        nordic, norse, northern renaissance, nu metal, occult, occult art, octopath traveler, old school, op art,
        op-art, orientalism, orientalist, orphism, outrun, outsider art, overwatch, persian, persian miniature,
        photo impressionism, pixelart, pointillist, pokemon, polynesian, pop surrealism, post apocalyptic,
        post-apocalyptic, post-impressionism, post-impressionist, post-modern, postmodern, postmodernism,
        pre-raphaelite, pre-raphaelitism, precisionism, precolumbian, primitive, psychedelic, psychedelic art, pulp,
        pulp art, pulp science fiction, punk, punk rock, ratfink style, rayonism, realist, realistic style, regency,
        religious art, renaissance art, retro, retro anime, retro futurism, retro futuristic, retro style,
        retrofuturism, retrowave, rococo style, romanesque, rpg, sacred geometry, sailor moon, sci-fi, sci-fi art,
        science fantasy, science fiction, scifi, seapunk, semi-realism, shonen, shonen anime, shoujo manga, skyrim,
        slavic, socialist realism, solarpunk, southern gothic, soviet realism, space opera, spaghetti western,
        stained-glass, star trek, star wars, steampunk, steampunk style, stencil art, streamline moderne, street
        art, streetwear, stylised, stylized, superflat, superhero, suprematist, surreal, surreal art, surrealist,
        surrealistic, sword and sorcery, symbolic, symbolist, synth wave, tech noir, tech wear, techno, techwear,
        tenebrism, the dutch masters, tonalism, toon shading, toyism, traditional chinese, traditional japanese,
        tribal, tribal art, trompe l'oeil, ukiyo e, urban, urbex, utopian art, vanitas, vaporware, victorian,
        victorian style, video game style, viking, vintage, vintage sci-fi, vintage style, visionary, visionary art,
        vorticism, wabi-sabi, warcraft, warhammer, warhammer 40k, weird fiction, weirdcore, western, western comic,
        witcher, world of warcraft, wuxia, y2k, y2k aesthetic, zelda, zen, zentangle
    """,
    "format": """
        2d, 2d art, 2d game art, 2d illustration, 2d sprites, 3d, 3d art, 3d illustration, 3d model, 3d print, 3d
        printed, 3d rendered, 3d rendering, 3d scene, 3d sculpture, abstract painting, acrylic, acrylic on canvas,
        acrylic paint, acrylic painting, action figure, advertisement, aerial photography, airbrush, airbrush art,
        airbrush painting, album art, album cover, album cover art, ambrotype, amigurumi, analog photo, analog
        photography, anatomical drawing, animated film, anime illustration, anime poster, anime screenshot,
        aquatint, architectural drawing, architectural model, architectural photography, architectural render, art
        print, artbook, artwork, ascii art, astrophotography, autochrome, balloon animal, bas-relief, batik, black
        and white photo, black and white photograph, black and white photography, blueprint, board game art, book
        cover, book cover art, book illustration, botanical illustration, box art, boxart, bronze sculpture, bronze
        statue, brush stroke, brush strokes, bust, calligraphy, calotype, candid photo, card art, caricature,
        cartoons, carving, cave painting, cctv footage, ceramic, ceramics, cg art, cgi, chalk, chalk art, chalk
        drawing, character art, character concept, character concept art, character design, character portrait,
        character sheet, character turnaround, charcoal, charcoal sketch, child's drawing, children's book
        illustration, chinese ink painting, cigarette card, cinematography, clay sculpture, claymation, claymation
        film, clip art, clipart, collage, collodion, color page, colored pencil, colored pencil drawing, coloring
        book, coloring page, coloring pages, colour pencil, comic, comic art, comic book, comic book art, comic book
        cover, comic book page, comic book panel, comic cover, comic cover art, comic page, comic panel, comic
        strip, computer art, computer graphics, concept artwork, concept design, concept sketch, conte crayon,
        cookbook photo, copperplate engraving, cover art, crayon, crayon art, creature design, crochet, cross
        stitch, cross-section, crosshatching, cutaway, cutaway diagram, dashcam footage, decoupage, desktop
        wallpaper, detailed illustration, digital artwork, digital collage, digital drawing, digital illustration,
        digital paint, digital painting, digital photo, digital photograph, digital photography, digital portrait,
        diorama, disposable camera photo, documentary, documentary photo, documentary photography, doodle, double
        exposure, drawing, drone photography, dry brush, drypoint, editorial illustration, editorial photo,
        editorial photography, embroidery, enamel pin, encaustic, engraving, environment concept art, environment
        design, etching, exploded diagram, family photo, fan art, fanart, fashion editorial, fashion illustration,
        fashion photo, fashion photography, fashion photoshoot, fighting game, figurine, film film still, film
        photo, film photography, film poster, film screenshot, filmstill, fine art, fine art photography, flash
        photo, flash photography, flat illustration, flat vector art, flipbook, food photography, found footage,
        fresco, full color, funko pop figure, game art, game asset, game card, game concept art, game cover, game
        icon, game screenshot, gameplay, gameplay screenshot, gif, glass sculpture, gouache, gouache painting,
        graphic art, graphic design, graphic novel, graphic novel art, graphite, graphite drawing, halftone, hand
        drawn, hand-painted, hologram, holographic, holography, ice sculpture, icon, icon design, illuminated
        manuscript, illustrations, in-game screenshot, infographic, infrared photography, ink, ink art, ink drawing,
        ink illustration, ink painting, ink sketch, ink wash, inked, inktober, instagram photo, interior design,
        isometric render, ivory carving, japanese woodblock print, jigsaw puzzle, kaleidoscope, key art, key visual,
        kirigami, knitted, landscape painting, landscape photography, lego, line drawings, lineart, linework,
        linocut, lithograph, lithography, loading screen, logo, logo design, long exposure photograph, low poly
        render, macrame, macro photo, macro photography, magazine, magazine ad, magazine cover, magazine photo,
        manga, manga art, manga cover, manga drawing, manga illustration, manga page, manga panel, manuscript, map,
        marble sculpture, marble statue, marionette, marquetry, matchbox art, matte drawing, matte paint, matte
        painting, mattepainting, medical illustration, medium format photo, mezzotint, miniature, miniatures, mixed
        media, mixed media collage, mobile game, model sheet, mosaic, motion picture, movie frame, movie poster,
        movie scene, movie screenshot, movie still, mural, national geographic photo, national geographic
        photography, nature documentary, nature photography, needle felting, needlepoint, nendoroid, newspaper,
        newspaper clipping, night photography, oekaki, official art, official artwork, official media, oil, oil on
        canvas, oil paint, oil painting on canvas, oil pastel, oil portrait, oil sketch, old photo, old photograph,
        origami, paint by numbers, paintings, palette knife, palette knife painting, paper art, paper cut, paper
        cutout, papercraft, papercut, papyrus, passport photo, pastel, pastel painting, pastel sketch, pastels,
        patent drawing, pen and ink, pen and ink drawing, pen and ink illustration, pen drawing, pen sketch, pencil,
        pencil art, pencil illustration, petroglyph, photo, photobash, photocollage, photogram, photography,
        photojournalism, photos, photoshoot, picture, pinhole photography, pixel, plaster sculpture, plasticine,
        playing card, plush, plushie, polaroid, polaroid photo, polaroid photograph, political cartoon, porcelain
        figurine, portrait, portrait painting, portrait photo, portrait photograph, portrait photography, postage
        stamp, postcard, poster, poster art, poster design, pottery, press photo, printmaking, product design,
        product photo, product render, product shot, profile picture, promotional art, promotional image, propaganda
        poster, puppet, quilling, quilt, real photo, reference sheet, risograph, rotoscope, rotoscoped, sand
        sculpture, sanguine drawing, satellite image, satellite imagery, scan, schematic, school photo, scientific
        illustration, scrapbook, scratchboard, screen print, screenprint, scrimshaw, sculpture, security camera
        footage, selfie, sgraffito, sheet music, silhouette, silk screen, silkscreen, silverpoint, sketch,
        sketchbook, sketches, soapstone carving, speed painting, speedpaint, speedpainting, splash art, splash
        screen, splatter paint, sports photography, spray paint, sprite, sprite sheet, stained glass, stamp, statue,
        stencil, stereogram, sticker, sticker art, still life, still life painting, stipple, stippling, stock image,
        stock photo, stock photography, stop motion, stop motion animation, storyboard, storybook illustration,
        street photography, studio photo, studio photograph, studio photography, studio portrait, sumi-e, svg,
        t-shirt design, tapestry, tarot card, tattoo, tattoo design, tattoo flash, technical drawing, technical
        illustration, tempera, textbook illustration, thermal imaging, tintype, tintype photograph, top-down map,
        toy, trading card, trading card art, trading card game art, travel photography, travel poster, turnaround,
        ukiyo-e print, underwater photography, vector, vector graphics, vector illustration, vector line art, vhs
        footage, vhs still, video game, video game art, video game cover, video game screenshot, vintage photo,
        vintage photograph, vintage photography, vintage postcard, vintage poster, vinyl toy, virtual reality,
        visual novel, wall art, wallpaper, wanted poster, war photography, watercolor, watercolor and ink,
        watercolor art, watercolor illustration, watercolor on paper, watercolor paint, watercolor sketch,
        watercolors, watercolour, watercolour painting, wax sculpture, webcomic, wedding photography, wet on wet
        technique, wet plate, wet plate photograph, wheatpaste, wildlife photo, wildlife photography, wireframe,
        wood carving, wood engraving, woodblock, woodblock print, woodburning, woodcarving, woodcut, woodcut print,
        x-ray, x-ray photography, yearbook photo, zine
    """,
    "perspective": """
        100mm, 105mm, 135mm, 14mm, 150mm, 16mm, 18mm, 200mm, 20mm, 24mm, 28mm, 3/4 profile, 3/4 view, 300mm, 30mm,
        35mm, 40mm, 45mm, 50mm, 55mm, 600mm, 80mm, 8mm, 90mm, action pose, action shot, aerial, amazing composition,
        anamorphic, anamorphic lens flare, anamorphic lens flares, aperture, asymmetrical, asymmetrical composition,
        axonometric, back view, background blur, background out of focus, balanced composition, beautiful
        composition, bird's eye, bird's eye view, birds-eye view, birdseye view, black background, blank background,
        blue background, blurred background, blurry background, body shot, bokeh background, bokeh effect, bottom
        view, bust portrait, candid, candid shot, center composition, centered, centered composition, central
        composition, centralized, centred, chest up, cinematic angle, cinematic composition, cinematic framing,
        cinematic perspective, cinematic shot, cinematic view, circular composition, city background, clean
        background, close up face, close up photo, close up portrait, close up view, close-up portrait, close-up
        shot, closeup, closeup of face, closeup portrait, closeup shot, cover composition, cowboy shot, crane shot,
        cropped, cross section, crowded composition, dark backdrop, deep depth of field, deep focus, deep
        perspective, depth blur, depth of field, depth of field bokeh, detailed background, diagonal composition,
        diptych, distant, distant shot, distant view, dof, dolly zoom, dramatic pose, drone footage, drone photo,
        drone shot, drone view, dutch angle, dynamic angle, dynamic camera angle, dynamic composition, dynamic
        perspective, dynamic pose, dynamic shot, elevation view, epic composition, epic pose, epic scale, epic shot,
        epic wide shot, establishing, establishing shot, excellent composition, exploded view, expressive pose,
        exterior shot, extreme angle, extreme close up, extreme closeup, extreme long shot, extreme perspective, eye
        contact, eye level, eye level shot, eye-level, f/1.2, f/1.4, f/1.8, f/11, f/16, f/2, f/2.8, f/22, f/32, f/4,
        f/8, face close up, face focus, face shot, facing camera, facing the camera, facing the viewer, facing
        viewer, far away, far shot, fast shutter speed, first person, first person view, first-person perspective,
        fish eye, fish-eye lens, fisheye, flat lay, focal length, focus on face, forced perspective, foreshortening,
        forest background, from a distance, from afar, from side, from the back, from the front, from the side,
        front facing, front on, front shot, front view, frontal, frontal view, full body, full body pose, full body
        shot, full body view, full face, full figure, full frame, full height, full length, full length portrait,
        full length shot, full view, full-body portrait, fullbody, fullshot, glamor pose, glamour pose, glamour
        shot, golden ratio, golden ratio composition, good composition, gopro, gradient background, gray background,
        great composition, green background, grey background, ground level, ground level shot, ground-level view,
        half body, half body shot, half-body portrait, head and shoulders, head and shoulders portrait, head and
        shoulders shot, head on, head shot, headshot, helicopter shot, hero shot, heroic pose, high angle, high
        angle shot, high angle view, horizon, horizontal, huge scale, hyperfocal, in frame, in profile, interior
        shot, iso 100, iso 200, iso 400, iso 800, isometric 3d, isometric perspective, isometric view, knees up,
        large scale, long exposure, long focus, long lens, long range, look at viewer, looking at camera, looking at
        the camera, looking at the viewer, looking at viewer, looking away, looking down, looking into the camera,
        looking straight ahead, looking up, low angle camera, low angle photo, low angle shot, low angle view, low
        view, macro, macro lens, macro shot, macro view, massive scale, master shot, masterful composition, medium
        close up shot, medium close-up, medium format, medium full shot, medium long shot, medium portrait, medium
        shot, micro lens, microscopic, mid shot, mid view, mid-shot, middle shot, midshot portrait, minimal
        background, minimalist composition, money shot, multiple exposure, multiple views, narrow depth of field,
        negative space, no background, no crop, no dof, not cropped, off-center, one point perspective, one shot,
        orthogonal, orthographic, orthographic projection, orthographic view, out of focus, over shoulder, over the
        shoulder, over the shoulder shot, over the shoulder view, overhead, overhead shot, panorama, panoramic shot,
        panoramic view, parallax, perfect composition, perfect symmetry, perspective view, photo from above,
        pincushion lens effect, point of view, polarizing filter, portrait lens, portrait shot, pov, pov shot,
        profile, profile photo, profile portrait, profile shot, profile view, radial symmetry, rear view, red
        background, rule of third, rule of thirds, satellite view, scenic background, seen from above, seen from
        afar, seen from behind, seen from below, selfie shot, shallow focus, short lens, shot from above, shot from
        behind, shot from below, side angle, side on, side portrait, side profile, side shot, side view, simple
        background, single shot, single subject, slow shutter speed, soft background, solid background, solid color
        background, space background, spiral composition, split screen, square composition, standing pose, straight
        on, straight-on, street view, strong perspective, studio background, subject centered, subject in focus,
        symmetric, symmetrical, symmetrical balance, symmetrical composition, symmetry, tele lens, telephoto lens,
        telephoto shot, the golden ratio, the rule of thirds, third person, third person view, three point
        perspective, three quarter portrait, three-quarter view, tight framing, tight shot, tilt shift, tilt shift
        photography, tilt-shift, tilt-shift lens, top angle, top down, top down view, top view, top-down, tracking
        shot, transparent background, triangular composition, triptych, turnaround sheet, two point perspective, two
        shot, ultra wide, ultra wide angle, ultra wide lens, ultra wide shot, ultra-wide angle, ultrawide, ultrawide
        angle, ultrawide lens, ultrawide shot, uncropped, unobstructed view, upper body, upper body portrait, upper
        body shot, upward angle, vanishing point, vertical, vertical composition, view from above, view from afar,
        view from behind, view from below, view from the ground, viewed from above, viewed from afar, viewed from
        below, viewed from the side, vignette, waist shot, waist up, waist-up portrait, whole body, wide angle lens,
        wide angle photograph, wide angle photography, wide angle shot, wide angle view, wide aperture, wide lens,
        wide perspective, wide screen, wide shot, wide view, wide-angle photo, widescreen, worm's eye view, worms
        eye view, yellow background, zenith view, zoom in, zoom lens, zoom out, zoomed in, zoomed out
    """,
    "booster": """
        100 megapixels, 108 megapixels, 1080p, 10k, 12k, 150mp, 16-bit color, 16k, 16k resolution, 24k, 2k, 32k, 3d
        depth, 3ds max, 4 k hd, 4k hdr, 4k uhd, 4k uhd image, 4k ultra hd, 4k wallpaper, 500px, 64 megapixels, 64k,
        6k, 720p, 8 k hdr, 8k hd, 8k high definition, 8k resolution, 8k uhd, aaa, aaa game, absurdres, accurate,
        accurate anatomy, accurate features, adobe after effects, adobe illustrator, adobe lightroom, adobe
        photoshop, aesthetically pleasing, affinity photo, after effects, amazing, amazing depth, amazing detail,
        ambient occlusion, anatomically correct, anatomically perfect, anti-aliasing, antialiasing, archdaily,
        arnold, arri, arri alexa, art station, artistic, artstation, artstation hd, artstation hq, artstation
        trending, artstationhd, artstationhq, autodesk maya, award, award winner, award winning, award winning art,
        award winning painting, award winning photograph, award winning photography, award-winning photo,
        awe-inspiring detail, beautiful detailed, beautifully detailed, behance, behance contest winner, behance hd,
        best, best of artstation, best on artstation, best quality, blender, blender render, breath-taking,
        breathtaking, brilliant, c4d, canon, canon 5d, canon eos, canon eos 5d, canon eos r3, caustics, cel
        animation quality, cg, cg society, cg society contest winner, cgsociety, cgsociety contest winner, chromatic
        aberration, cinema 4d, cinema4d, cinema4d render, cinestill, cinestill 800t, clean, clean lines, clean
        linework, clear, clear focus, coherent, coherent composition, color graded, color grading, colour grading,
        complex, complex details, corona render, corona renderer, crazy detail, crisp, crisp details, crisp image,
        crisp lines, crisp quality, cry engine, cryengine, cycles, cycles render, daily deviation, daz, daz 3d,
        daz3d, delicate, delicate details, denoise, denoised, depth perception, detailed and intricate, detailed and
        intricate environment, detailed and realistic, detailed eyes, detailed face, detailed faces, detailed
        features, detailed hands, detailed line work, detailed linework, detailed render, detailed shading, detailed
        textures, deviant art, deviantart, deviantart contest winner, digital matte, dlsr, dslr, dslr photo,
        editor's choice, editors choice, ektachrome, elaborate, elite, enhanced, epic details, excellent,
        exceptional, exquisite, exquisite detail, exquisite details, extra crisp, extra detailed, extra sharp,
        extreme detail, extreme details, extreme quality, extremely beautiful, extremely coherent, extremely
        detailed face, extremely fine details, extremely high detail, extremely high quality, extremely high
        resolution, extremely hyper detailed, extremely intricate, extremely realistic, extremely sharp, fantastic
        details, favorites on deviantart, featured, featured on amiami, featured on artstation, featured on behance,
        featured on cgsociety, featured on deviantart, featured on instagram, featured on pixiv, fine, fine detail,
        fine details, fine lines, finely detailed, finely detailed features, first place, flawless, flawless
        composition, flickr, focused, foto realistic, fractal details, frostbite engine, fuji velvia, fujifilm,
        fujifilm xt3, full detail, full hd, full of detail, full of details, furaffinity, global illumination,
        global lighting, good lighting, good quality, great detail, great quality, greatest, hard edges, hard focus,
        hasselblad, hd, hd photo, hd photography, hd quality, hd render, hd resolution, hdr, hi res, hi-res, high
        definition, high detailed, high details, high dynamic range, high fidelity, high octane render, high poly
        count, high production value, high quality, high quality art, high quality photo, high quality photography,
        high quality render, high res, high resolution, high resolution photo, high resolution photograph, high
        resolution photography, high-tech render, highest detail, highest quality, highest resolution, highly
        coherent, highly detailed and intricate, highly detailed eyes, highly detailed face, highly details, highly
        intricate, highly polished, highly realistic, highly rendered, highly textured, houdini, houdini render, hq,
        hyper detail, hyper detailed, hyper details, hyper intricate, hyper photorealistic, hyper real, hyper
        realism, hyper resolution, hyper sharp, hyper-realistic details, hyperdetailed, hyperreal, hyperrealism,
        hyperrealist, imax, imax quality, immaculate, impressive, in focus, incredible, incredible detail,
        incredible details, incredible quality, incredibly detailed, insane, insane detail, insane details, insane
        quality, insanely detailed, insanely detailed and intricate, insanely intricate, inspiring, instagram,
        intense detail, intricate, intricate complexity, intricate design, intricate detail, intricate detailed,
        intricate details, intricate environment, intricate lines, intricate linework, intricate ornate details,
        intricate patterns, intricate textures, intricately detailed, keyshot, keyshot render, kodachrome, kodak,
        kodak ektachrome, kodak ektar, kodak gold, kodak portra, kodak portra 400, large format, leica, life like,
        life-like, lifelike, line art quality, lossless, lots of detail, lots of details, lumen, lumen reflections,
        luxcore, magnificent detail, magnum opus, magnum photos, many details, marmoset, marmoset toolbag,
        marvelous, master piece, masterful, masterpiece, masterwork, max detail, max resolution, maximum detail,
        maximum texture, maya, maya render, mega detail, megascans, meticulous, meticulous detail, meticulously
        detailed, micro detail, micro details, mind-blowing, mindblowing, minute detail, most beautiful image ever
        created, museum quality, nanite, national geographic, nikon, nikon d850, no artifacts, no blur, no noise,
        noise free, nvidia, nvidia rtx, octane, octane 3d, octane engine, octane rendered, octane renderer, octane
        rendering, ornate details, outstanding, overdetailed, overly detailed, panavision, path traced, path
        tracing, pbr, perfect, perfect anatomy, perfect detail, perfect details, perfect eyes, perfect face, perfect
        hands, perfect proportions, perfect quality, perfect render, perfect shading, perfectly detailed, phase one,
        photo quality, photo real, photo realism, photo realistic, photo-real, photographic, photographic quality,
        photographic realism, photoreal, photorealism render, photoshop, physically based rendering, picture
        perfect, pinterest, pixiv, pixiv contest winner, pixiv fanbox, polished, polycount, post processed, post
        processing, post production, post-processed, postprocessed, postproduction, povray, precise, precise
        details, precise lineart, precise linework, premium, pretty, print quality, prize winning, pro photo,
        production quality, professional art, professional digital painting, professional photo, professional
        photograph, professional photography, professionally color graded, professionally retouched, pulitzer prize,
        radiosity, raw, raw photo, ray marching, ray traced, ray tracing, ray tracing reflections, ray-traced,
        raytraced, raytracing, razor sharp, real, real life, real time rendering, realistic, realistic anatomy,
        realistic detail, realistic details, realistic face, realistic faces, realistic human, realistic
        proportions, realistic reflections, realistic render, realistic shaded, realistic shading, realistic
        textures, red digital camera, reddit, reddit contest winner, redshift, redshift render, redshift renderer,
        refined, rendered by octane, rendered in blender, rendered in cinema 4d, rendered in houdini, rendered in
        maya, rendered in octane, rendered in unreal engine 5, rendered with octane, renderman, retouched, rich
        detail, rich details, rich in detail, rtx, rtx global illumination, rtx on, sharp, sharp detail, sharp
        details, sharp edges, sharp features, sharp focus, sharp image, sharp lens, sharp lines, sharp quality,
        sharpened, sharpness, shot on imax, shot on red, shutterstock, shutterstock contest winner, sigma 85mm
        f/1.4, simply stunning, sketchfab, smooth, smooth gradients, smooth lines, smooth render, smooth shading,
        sony a7, sony a7r, sony a7r iv, sophisticated, spectacular, specular highlights, splendid, state of the art,
        studio quality, stunning detail, stunning details, stunning quality, stunning visuals, stunningly beautiful,
        sub-surface scattering, sublime, substance designer, substance painter, subsurface scattering,
        subsurface-scattering, subtle details, super detail, super detailed, super high resolution, super highly
        detailed, super quality, super realistic, super resolution, super sharp, super sharp focus, superb, superb
        detail, superior quality, superrealism, supersampling, symmetrical eyes, symmetrical face, symmetrical
        features, tack sharp, technicolor, textured, tone mapped, tone mapping, toon boom, top quality, top rated,
        topaz, trend on artstation, trending, trending art, trending artstation, trending in artstation, trending on
        500px, trending on art station, trending on artstation 4k, trending on artstation hd, trending on artstation
        hq, trending on behance, trending on cgsociety, trending on deviantart, trending on instagram, trending on
        pinterest, trending on pixiv, trending on pixiv fanbox, trending on polycount, trending on reddit, trending
        on unsplash, tumblr, ue4, ue5, uhd, uhd 4k, uhd 8k, ultra clear, ultra crisp, ultra definition, ultra
        detail, ultra detailed, ultra detailed face, ultra details, ultra fine details, ultra hd, ultra high
        definition, ultra high detail, ultra high quality, ultra high res, ultra high resolution, ultra highly
        detailed, ultra hq, ultra intricate, ultra photorealistic, ultra quality, ultra real, ultra realism, ultra
        realistic, ultra resolution, ultra sharp, ultra sharp focus, ultradetailed, ultrafine detail, ultrahd,
        ultrarealistic, ultrasharp, unbelievably detailed, unedited, unity, unity engine, unreal, unreal 5, unreal
        engine 4, unreal engine 4k, unreal engine 5, unreal engine 5 render, unreal engine render, unreal engine
        rendering, unreal render, unsplash, unsplash contest winner, v-ray, v-ray render, very beautiful, very
        coherent, very detailed, very high detail, very high detailed, very high quality, very high resolution, very
        intricate, very realistic, very sharp, vfx render, visually stunning, vivid details, volumetric rendering,
        vray, vray render, vray tracing, vsco, well composed, well detailed, well drawn, well rendered, weta,
        windows xp, winner, winning award, wonderful, world-class, xf iq4, zbrush central, zbrush render, zbrush
        sculpt, zeiss, zeiss lens
    """,
    "vibe": """
        abandoned, abyssal, accent lighting, adorable, adventurous, aesthetic, ambience, ambient, ambient ambient
        lighting, anamorphic flare, angelic, apocalyptic, astral, atmospheric fog, atmospheric haze, aurora, aurora
        borealis, autumn, autumnal, awe inspiring, awe-inspiring, back light, backlight, backlighting, backlit,
        badass, baroque lighting, beautiful light, beautiful lighting, bioluminescence, bioluminescent, bizarre,
        black and white, black light, black-and-white, bleak, bloom, bloom lighting, blooming, blue hour, blue
        light, bokeh lights, bold colors, breathtaking mood, bright background light, bright colors, bright light,
        bright lighting, bright lights, brightly lit, broad lighting, brooding, brutal, butterfly lighting, calm,
        calming, candle light, candlelight, candlelit, carefree, caustic light, celestial, chaotic, cheerful,
        chiaroscuro, chiaroscuro lighting, christmas, chrome, cinematic atmosphere, cinematic color grading,
        cinematic colors, cinematic light, cinematic lighting, cinematic lights, cinematic mood, clear sky, cloudy,
        cloudy sky, cold, cold colors, cold light, cold lighting, color splash, colorful lighting, colorfull,
        colorized, colourful, comfy, complementary colors, contemplative, contrast, contrasting, cool, cool colors,
        cool lighting, cool tones, cosmic, cosy, cozy, cozy atmosphere, creepy, crepuscular rays, cross lighting,
        cursed, cyan and orange, cybernetic glow, dappled light, dappled sunlight, daring, dark, dark and moody,
        dark and mysterious, dark atmosphere, dark colors, dark fog, dark light, dark lighting, dark mood, dark
        night, dark shadows, dark sky, dark tones, dark vibes, darkness, dawn, daylight, daytime, decadent, decay,
        decaying, deep blue, deep color, deep colors, deep shadows, delicate mood, delightful, demonic, depressing,
        desaturated, desolate, desperate, devastating, diffuse, diffuse light, diffuse lighting, diffused light,
        diffused lighting, dim, dim light, dim lighting, dimly lit, dirty, disco lights, disturbing, divine, doom,
        dramatic, dramatic atmosphere, dramatic clouds, dramatic light, dramatic lighting, dramatic lights, dramatic
        mood, dramatic shadows, dramatic sky, dream, dream-like, dreamlike, dreamscape, dreamy, dreary, dull, dull
        palette, duotone, dusk, dusky, dust particles, dusty, dynamic, dynamic light, dynamic lighting, dynamic
        shadows, earth tones, earthy, eccentric, edgy, eerie, eery, electric, elegance, elegant mood, embers,
        emotional, emotive, enchanted, enchanting, energetic, enigmatic, epic atmosphere, epic light, epic lighting,
        epic mood, esoteric, ethereal, ethereal glow, ethereal light, ethereal lighting, euphoric, evening, evening
        light, evil, evocative, exotic, expressive, exuberant, fantastical, fantastically gaudy, fantasy lighting,
        fear, festive, fierce, film grain, film noir lighting, filmic, fireflies, firelight, flat colors, flat
        lighting, floating particles, fluorescent, fluorescent colors, fog, foggy, foggy atmosphere, forboding,
        foreboding, forlorn, fragile, frightening, frosty, full moon, full of color, fun, funky, funny, fuzzy,
        gaudy, gentle, ghastly, ghostly, glamorous, glamour, glassy, gleaming, glimmering, glistening, glitter,
        glittering, gloomy, gloomy atmosphere, glorious, glossy, glow, glowing, glowing light, glowing lights,
        glowing neon, god light, god rays, godrays, golden, golden hour, golden hour lighting, golden light, golden
        lighting, gory, graceful, grain, grand, grandiose, gray, grayscale, greyscale, grim, grim lighting, grimy,
        gritty, grotesque, halloween, happiness, happy, hard light, hard shadow, hard shadows, harmonious, harmony,
        harsh light, harsh lighting, harsh shadows, haunted, haunting, haze, hazy, hdri lighting, heartwarming,
        heavenly, heavy fog, heavy grain, heavy rain, hellish, heroic, high contrast, high key, high key lighting,
        high saturation, holographic light, holy, hopeful, horrific, horrifying, humorous, hypnotic, iconic, icy,
        idyllic, illuminated, image based lighting, imposing, ink splatter, innocent, inspirational, intense,
        intense colors, intense light, intense lighting, intense shadows, interior lighting, intimate, intimidating,
        iridescence, iridescent, iridescent colors, joy, joyful, joyous, key light, kinetic, lantern light, laser
        lights, led light, led lighting, legendary, lens glow, light and dark, light and shadow, light beams, light
        bloom, light dust, light effect, light fog, light leaks, light particles, light rays, light shafts,
        lightning, liminal, lively, lofi, loneliness, lonely, long shadows, loop lighting, lovely, low contrast, low
        key, low key lighting, low light, low lighting, low saturation, lsd, lucid dream, luminescent, luminous,
        lurid, lush, lush colors, luxurious, luxury, macabre, magic, magic hour, magical atmosphere, magical
        lighting, majestic, matte, matte colors, medieval atmosphere, meditative, melancholia, melancholic,
        melancholic mood, menacing, mesmerizing, messy, metaphysical, midday, midnight, minimal color, mist, mist
        and fog, misty, misty atmosphere, monochromatic, monochrome, monstrous, monumental mood, mood lighting,
        moody atmosphere, moody colors, moody light, moody lighting, moon light, moonlight, moonlit, morbid,
        morning, morning light, morning mist, multicolored, murky, muted, muted color palette, muted colors, muted
        colours, muted palette, muted tones, mystery, mystic, mystical, mystical atmosphere, mystique, mythic,
        mythical, natural, natural color palette, natural colors, natural light, natural lighting, nebula, neon,
        neon color, neon colors, neon glow, neon light, neon lighting, neon lights, neutral colors, nice lighting,
        night, night lighting, night sky, night time, nightmare, nightmarish, nighttime, noble, noise, nostalgia,
        nostalgic, oceanic, ominous, ominous atmosphere, ominous lighting, opulent, organic, ornate, otherworldly,
        outdoor lighting, overcast, overcast lighting, overexposed, overgrown, overhead lighting, painterly, pale,
        pale colors, panic, paranormal, particles, passionate, pastel color, pastel color palette, pastel colors,
        pastel colours, pastel palette, pastel tones, peaceful, perfect light, perfect lighting, phantasmagoric,
        phantasmal, phosphorescent, picturesque, playful, pleasant, poetic, powerful, practical lighting, primal,
        prismatic, professional lighting, provocative, purple haze, purple light, quaint, quiet, quirky, radiant,
        radiant colors, radiant light, radiant lighting, rain, rainbow, rainbow colors, raining, rainy, rainy day,
        rays of light, realistic lighting, red light, red lighting, reflections, reflective, refraction, regal,
        relaxed, relaxing, rembrandt lighting, retro colors, rich color, rich colors, rich deep colors, rim light,
        rim lighting, rim lights, rimlight, ring light, romantic, royal, rugged, rustic, sacred, sad, sadness,
        sardonic, saturated, saturated colors, scary, screaming colors, secretive, sense of awe, sense of scale,
        sense of wonder, sepia, sepia tone, serene, serenity, serious, shadows, shadowy, shimmering, shiny, short
        lighting, side light, side lighting, silent, sinister, smoke, smoke and fog, smokey, smoky, snowing, snowy,
        soft, soft ambient light, soft and warm, soft color, soft color palette, soft colors, soft diffused light,
        soft glow, soft light, soft lighting, soft lights, soft pastel colors, soft shadows, soft studio lighting,
        softbox lighting, solemn, somber, sombre, soothing, sorrow, sparkle, sparkles, sparkling, sparks, spectral,
        spiritual, split lighting, spooky, spotlight, stadium lighting, stage lighting, stark, starlight, starry,
        starry night, starry sky, statuesque, steam, stern, stoic, storm, strange, street lights, striking, strobe
        lighting, strong light, strong lighting, strong shadows, stylish, subdued colors, subtle, subtle colors,
        sultry night, summer, summery, sun beams, sun flare, sun light, sun rays, sunbeams, sunlight, sunlit, sunny,
        sunny day, sunrays, sunrise, sunset, sunset light, sunset lighting, sunshine, supernatural, surreal
        atmosphere, surreal lighting, suspense, suspenseful, sweet, swirling mist, teal and orange, tender, tense,
        tension, terrifying, terror, theatrical, theatrical lighting, three point lighting, thriller, thunderstorm,
        timeless, top lighting, torch light, torchlight, touching, tragic, tranquil, transcendent, translucent,
        triadic color scheme, trippy, triumphant, twilight, tyndall effect, ultraviolet, uncanny, under light,
        underwater lighting, unearthly, unnerving, unsettling, uplifting, uv light, vibrant, vibrant color, vibrant
        color palette, vibrant color scheme, vibrant colors, vibrant colours, vibrant lighting, vibrant neon,
        vintage colors, violent, vivacious, vivid color, vivid colors, vivid colours, vivid lighting, volume light,
        volumetric, volumetric clouds, volumetric fog, volumetric light, volumetric lighting, volumetric lights,
        volumetric shadows, volumetric smoke, warm, warm color palette, warm colors, warm colours, warm glow, warm
        light, warm lighting, warm lights, warm tone, warm tones, warming, washed out colors, weird, whimsical,
        wholesome, window light, windy, winter, wintry, wistful, wonder, wondrous light, zany
    """,
}

# Artists whom the published lists lack.
ARTISTS = """
    aardman, aaron horkey, adam hughes, adi granov, aenaluck, agnes cecile, agostino arrivabene, akihito tsukushi,
    akihito yoshida, akira kurosawa, alberto mielgo, alejandro jodorowsky, alessio albi, alex webb, alexandre ferra,
    alphonse mucha, alyssa monks, andreas rocha, andree wallin, andrei tarkovsky, andy kehoe, andy thomas, angus
    mcbride, angus mckie, anna dittmann, anna podedworna, annie swynnerton, anton semenov, antoni gaudi, apterus,
    arc system works, aron wiesenfeld, artem chebokha, artem demura, ash thorp, asher durand, auguste rodin,
    ayanamikodon, basil gogos, basil wolverton, bastien lecouffe-deharme, bayard wu, bill henson, blizzard
    entertainment, bobby chiu, bogdan rezunenko, borovikovsky, brad kunkle, brad rigney, bruce weber, bryan lee
    o'malley, cameron gray, carl gustav carus, cartoon saloon, casey weldon, caspar david friedrich, cd projekt red,
    chet zar, chiara bautista, chie yoshii, chihiro iwasaki, christopher doyle, christopher nolan, clamp, claudio
    bravo, comix wave films, cory loftis, cushart krenz, damon soule, dan mumford, dan witz, daniel arsham, daniel
    gerhartz, daniel martin diaz, daniel merriam, darius zawadzki, darwyn cooke, dave rapoza, david bailey, david
    cronenberg, david fincher, david lynch, david mattingly, deathburger, denis sarazhin, denis villeneuve, dieter
    rams, disney, donato giancola, dreamworks, dylan cole, edgar maxence, edgar wright, edmund blair leighton, edwin
    longsden long, elihu vedder, ellen jewett, emmanuel lubezki, emmanuel shiu, ergojosh, eric pfeiffer, erik
    johansson, erik jones, erwin olaf, etam cru, eugene de blaas, eugene von guerard, eve ventrue, eytan zana,
    fausto de martini, federico pelat, feng zhu, fenghua zhong, fernand khnopff, fernanda suarez, fintan magee,
    fiona staples, francesco francavilla, francis tneh, francois schuiten, francoise nielly, frank gehry, frank
    lloyd wright, fritz lang, fromsoftware, gabriel hardman, gabriele dell'otto, games workshop, george morikawa,
    gerrit van honthorst, gian lorenzo bernini, gilbert williams, giuseppe dangelico pino, greg broadmore, greg
    manchess, greg olsen, greg simkins, greg tocchini, guangjian huang, guido reni, guillermo del toro, guweiz,
    hanna-barbera, heng z, henriette ronner-knip, henry asencio, hermann nitsch, hidari, hideaki anno, hideo kojima,
    hiroaki samura, hiroya oku, hsiao-ron cheng, hugh ferriss, hugo pratt, hyung tae kim, ian pesty, ian sprigger,
    ilya kuvshinov, industrial light and magic, iris compiet, iris van herpen, irving penn, istvan sandorfi, ivan
    bilibin, jake parker, jakub rebelka, jama jurabaev, jan urschel, jean baptiste monge, jeehyung lee, jeremy
    lipking, jeremy mann, jim henson, jim jarmusch, jimmy nelson, jo chen, joao ruas, jodorowsky, john jude
    palencar, johnson ting, johnson tsang, jonathan zawada, josan gonzalez, joseph christian leyendecker, joshua
    middleton, kaethe butcher, karel thole, karla ortiz, karol bak, katauri, katsuhiro otomo, katsura masakazu,
    kawacy, kehinde wiley, keith thompson, kentaro miura, kim jung gi, kirokaze, kon satoshi, konstantin razumov,
    krenz cushart, krista sudmalis, kyoto animation, laika, laurie greasley, lecouffe deharme, lee bermejo, leesha
    hannigan, leon tukker, liam brazier, lois van baarle, louise dahl-wolfe, louise zhang, ludwig deutsch, luis
    ricardo falero, madhouse, magali villeneuve, manabu ikeda, marc adamus, marc brunet, marc simonetti, marco
    bucci, marco mazzoni, mario testino, mark maggiori, martin ansin, martin parr, martin schoeller, marvel comics,
    masakazu katsura, masashi kishimoto, mcbess, megan duncanson, michael bay, michael hussar, michael sowa, mike
    campau, mike deodato, mike mignola, mikhail vrubel, milt kahl, mitchell mohrhauser, moebius, monia merlo, nadav
    kander, naoki urasawa, naoto hattori, nasreddine dinet, natalie shau, naughty dog, neil gaiman, nekro,
    nekroxiii, neo rauch, nick knight, nico delort, nixeu, otto schmidt, pablo amaringo, paolo roversi, pascal
    campion, patrick demarchelier, paul bonner, paul chadeisson, paul delaroche, paul kidby, paul robertson, peder
    balke, peder severin kroyer, pedro americo, pendleton ward, pete mohrbacher, peter andrew jones, peter jackson,
    peter kemp, peter konig, peter lloyd, peter polach, phil hale, phil noto, philipp otto runge, pixar, production
    i.g, quentin tarantino, ralph bakshi, ralph steadman, range murata, raqib shaw, reiq, rene laloux, rhads,
    richard scarry, rick berry, ridley scott, rineke dijkstra, riot games, rob rey, rockwell group, ron cobb, ron
    mueck, ross draws, ross tran, ruan jia, russ mills, russ nicholson, ryo shiotani, sachin teng, sakimichan, sally
    mann, sam yang, samdoesarts, samuel araya, sana takeda, santiago calatrava, sarah moon, saturno butto, saul
    bass, saul leiter, seb mckinnon, sebastiao salgado, senior environment artist, serge marshennikov, sergey
    kolesov, sergio toppi, shaun tan, shepard fairey, shigenori soejima, shigeru miyamoto, shintaro kago, shoji
    kawamori, slim aarons, soufiane idrassi, square enix, stanislav szukalski, stanley artgerm lau, stanley kubrick,
    stephen hickman, stephen king, steve henderson, steven meisel, steven spielberg, studio gainax, studio ghibli,
    studio muti, studio trigger, syd mead, takashi takeuchi, takehiko inoue, tatsuki fujimoto, tatsuro kiuchi,
    terrence malick, terry moore, terry richardson, tetsuya nomura, thomas eakins, thomas peschak, tian zi, tiffany
    bozic, tim bradstreet, tim burton, tim hildebrandt, tim jacobus, tim walker, tite kubo, todd mcfarlane, todd
    schorr, toei animation, tom bagshaw, tom lovell, tomer hanuka, tomoyuki yamasaki, tony sandoval, tooth wu,
    travis charest, trent parke, trevor henderson, tristan eaton, tsutomu nihei, tsuyoshi nagano, ufotable, valentin
    serov, vania zouravliov, vasily vereshchagin, victor adame minguez, viktoria gavrilenko, virgil abloh, vitaly
    bulgarov, vladimir motsar, vladimir volegov, walt disney, wangechi mutu, wayne barlowe, wayne d barlowe, wenjun
    lin, werner herzog, wes anderson, weta digital, william eggleston, william sidney mount, wit studio, wojtek fus,
    wong kar-wai, xiaoguang sun, yoichi hatakenaka, yoji shinkawa, yoshitomo nara, yoshiyuki sadamoto, yuji ikehata,
    yukito kishiro, yusuke kozaki, yusuke murata, zac retz, zdzislaw beksinski, zeronis, zhang jingna, zhelong xu
"""

# Suggested before the others: artists who died at least seventy years ago, and studios.
FIRST = """
    alphonse mucha, claude monet, vincent van gogh, caravaggio, katsushika hokusai, studio ghibli, pixar, leonardo
    da vinci, michelangelo, hieronymus bosch, gustave dore, rembrandt, johannes vermeer, raphael, titian, sandro
    botticelli, albrecht durer, hans holbein the younger, pieter bruegel the elder, jan van eyck, el greco, diego
    velazquez, francisco goya, peter paul rubens, anthony van dyck, artemisia gentileschi, tintoretto, paolo
    veronese, giotto, fra angelico, andrea mantegna, giovanni bellini, giorgione, correggio, lucas cranach the
    elder, matthias grunewald, giuseppe arcimboldo, frans hals, jacob van ruisdael, claude lorrain, nicolas poussin,
    salvator rosa, georges de la tour, gian lorenzo bernini, jean-honore fragonard, francois boucher, antoine
    watteau, thomas gainsborough, joshua reynolds, canaletto, giovanni battista piranesi, giovanni battista tiepolo,
    henry fuseli, william blake, jacques-louis david, jean-auguste-dominique ingres, eugene delacroix, theodore
    gericault, caspar david friedrich, john constable, j. m. w. turner, john martin, thomas cole, frederic edwin
    church, albert bierstadt, thomas moran, winslow homer, thomas eakins, gustave courbet, jean-francois millet,
    jean-baptiste-camille corot, edouard manet, edgar degas, pierre-auguste renoir, camille pissarro, alfred sisley,
    berthe morisot, mary cassatt, paul cezanne, paul gauguin, georges seurat, paul signac, henri de
    toulouse-lautrec, henri rousseau, gustave moreau, odilon redon, gustav klimt, egon schiele, edvard munch, franz
    marc, august macke, paul klee, wassily kandinsky, kazimir malevich, piet mondrian, amedeo modigliani, umberto
    boccioni, theo van doesburg, henri matisse, ivan aivazovsky, ivan shishkin, isaac levitan, ilya repin, viktor
    vasnetsov, mikhail vrubel, valentin serov, arkhip kuindzhi, ivan bilibin, nicholas roerich, vasily surikov,
    dante gabriel rossetti, john everett millais, william holman hunt, edward burne-jones, john william waterhouse,
    frederic leighton, lawrence alma-tadema, william morris, arthur hughes, evelyn de morgan, edmund leighton, john
    atkinson grimshaw, john singer sargent, james mcneill whistler, anders zorn, joaquin sorolla, akseli
    gallen-kallela, john bauer, theodor kittelsen, carl larsson, arnold bocklin, carl spitzweg, franz von stuck,
    fernand khnopff, jean delville, carlos schwabe, william-adolphe bouguereau, jean-leon gerome, alexandre cabanel,
    gaston bussiere, antoni gaudi, aubrey beardsley, walter crane, arthur rackham, edmund dulac, beatrix potter,
    kate greenaway, howard pyle, j. c. leyendecker, n. c. wyeth, winsor mccay, harry clarke, sidney sime, utagawa
    hiroshige, utagawa kuniyoshi, utagawa kunisada, kitagawa utamaro, tsukioka yoshitoshi, ohara koson, ernst
    haeckel, john james audubon, maria sibylla merian, auguste rodin, antonio canova, frida kahlo, jules
    bastien-lepage, ferdinand hodler, giovanni boldini, hubert robert, joseph wright of derby, philipp otto runge,
    louis wain, tom thomson, frederic remington, charles marion russell, disney, kyoto animation, madhouse,
    ufotable, studio trigger, wit studio, studio gainax, toei animation, cartoon saloon, aardman, laika, dreamworks,
    hanna-barbera, industrial light and magic, comix wave films
"""

# Spellings and short forms that `categorise` should know, by the usual spelling.
SPELLINGS = {
    "alphonse mucha": "mucha, alfons mucha, alphons mucha, alphonso mucha, alphone mucha, alfons maria mucha",
    "greg rutkowski": "rutkowski, greg rutowski, greg rutkowsky, greg rutkowsk, "
    "greg rutkowksi, greg rutkovsky, rutkowsky, rutkovsky, rutkovski",
    "vincent van gogh": "van gogh, vincent vangogh, vincent vang ogh",
    "claude monet": "monet, charles monet",
    "leonardo da vinci": "da vinci, davinci, leonardo davinci",
    "rembrandt": "rembrant, rembrandt van rijn",
    "katsushika hokusai": "hokusai",
    "utagawa hiroshige": "hiroshige",
    "pablo picasso": "picasso",
    "salvador dali": "dali",
    "rené magritte": "magritte",
    "johannes vermeer": "vermeer, jan vermeer",
    "gustav klimt": "klimt, gustav klimpt",
    "francisco goya": "goya, francisco de goya, fransico goya",
    "hieronymus bosch": "bosch, hieronymous bosch, jheronimus bosch",
    "henri matisse": "matisse, mattise",
    "wassily kandinsky": "kandinsky, vassily kandinsky",
    "eugene delacroix": "delacroix",
    "edvard munch": "munch",
    "edward hopper": "hopper",
    "andy warhol": "warhol",
    "jackson pollock": "pollock",
    "piet mondrian": "mondrian",
    "paul cezanne": "cezanne",
    "marc chagall": "chagall",
    "sandro botticelli": "botticelli",
    "pieter bruegel the elder": "bruegel, pieter bruegel, pieter brueghel",
    "gustave dore": "dore, gustav dore",
    "albrecht durer": "durer",
    "giuseppe arcimboldo": "arcimboldo, guiseppe arcimboldo",
    "frida kahlo": "kahlo",
    "kazimir malevich": "malevich",
    "paul gauguin": "gaugin, gauguin",
    "giovanni battista piranesi": "piranesi",
    "robert delaunay": "delaunay",
    "roy lichtenstein": "lichtenstein, roy liechtestein",
    "yayoi kusama": "kusama",
    "takashi murakami": "murakami",
    "alejandro jodorowsky": "jodorowsky",
    "esao andrews": "esao",
    "ai weiwei": "weiwei",
    "friedensreich hundertwasser": "hundertwasser",
    "shigeru miyamoto": "miyamoto",
    "kawase hasui": "hasui kawase",
    "ohara koson": "koson ohara",
    "asher brown durand": "asher durand",
    "edmund leighton": "edmund blair leighton",
    "darek zabrocki": "derek zabrocki, zabrocki",
    "dariusz zawadzki": "darius zawadzki",
    "daniel gerhartz": "daniel f. gerhartz, daniel f gerhartz",
    "greg manchess": "gregory manchess",
    "kilian eng": "killian eng",
    "satoshi kon": "kon satoshi",
    "masakazu katsura": "katsura masakazu",
    "gerald brom": "brom",
    "james christensen": "james c. christensen",
    "john j park": "john park",
    "nekro": "nekroxiii",
    "anna dittmann": "anna dittman",
    "guangjian huang": "huang guangjian",
    "gustave moreau": "gustav moreau",
    "frans hals": "franz hals",
    "hugh ferriss": "hugh ferris",
    "thomas eakins": "thomas eakes",
    "artemisia gentileschi": "artemisia lomi gentileschi, artemisia",
    "cedric seaut": "cedric seaut (keos masons)",
    "michelangelo": "michaelangelo",
    "h. r. giger": "giger, hans giger, h. r. (hans ruedi) giger, hg giger",
    "m. c. escher": "escher, maurits cornelis escher",
    "zdzislaw beksinski": "beksinski, zdislav beksinski, zdislaw beksinski, "
    "zdzisław beksinski, zdizslaw beksinski, bekinski",
    "j. c. leyendecker": "leyendecker, joseph christian leyendecker, joseph leyendecker",
    "john singer sargent": "sargent",
    "john william waterhouse": "waterhouse, william waterhouse",
    "william-adolphe bouguereau": "bouguereau, william bouguereau, "
    "william adolph bouguereau, william adolphe bouguerea",
    "j. m. w. turner": "william turner, joseph mallord william turner",
    "ivan aivazovsky": "aivazovsky",
    "ilya repin": "repin, ilja repin",
    "isaac levitan": "levitan",
    "ivan bilibin": "bilibin",
    "simon stalenhag": "stalenhag",
    "ilya kuvshinov": "kuvshinov, kuvshinov ilya",
    "artgerm": "stanley artgerm lau, stanley lau, stanley artgerm, artgem, art germ, artgerm lau",
    "frank frazetta": "frazetta, frank franzzeta",
    "hayao miyazaki": "miyazaki, myazaki, miyasaki",
    "makoto shinkai": "shinkai, makato shinkai",
    "kyoto animation": "kyoto studio, kyoani",
    "luis royo": "royo",
    "michael whelan": "whealan",
    "full of color": "full of colour",
    "blade runner": "bladerunner",
    "studio ghibli": "ghibli, ghibli studio, studios ghibli",
    "hajime isayama": "isayama",
    "peter mohrbacher": "mohrbacher, pete mohrbacher",
    "craig mullins": "craig mullism, craig mallismo",
    "thomas kinkade": "kinkade, thomas kincade, thomas kindkade, thomas kindle",
    "albert bierstadt": "bierstadt",
    "moebius": "mobius, jean giraud",
    "yoshitaka amano": "amano, amano yoshitaka, yoshita amano",
    "katsuhiro otomo": "otomo",
    "annie leibovitz": "annie leibowitz, annie liebovitz, annie liebowitz, amy leibowitz",
    "georgia o'keeffe": "o'keeffe, georgia o keeffe, georgia o keefe, georgia o'keefe",
    "ruan jia": "ruan jin",
    "ross tran": "tran ross",
    "wlop": "wolp",
    "cushart krenz": "krenz cushart, cushart krentz",
    "josan gonzalez": "josan gonzales",
    "norman rockwell": "normal rockwell",
    "andrei tarkovsky": "tarkovsky",
    "stanley kubrick": "kubrick",
    "lawrence alma-tadema": "alma-tadema",
    "jean-michel basquiat": "basquiat",
    "boris vallejo": "vallejo, boris valejo",
    "wayne barlowe": "wayne barlow, wayne d barlowe, wayne d. barlowe",
    "beeple": 'mike winkelmann, mike beeple winkelmann, mike "beeple" winkelmann',
    "dr. seuss": "seuss",
    "ross draws": "rossdraws",
    "bastien lecouffe-deharme": "lecouffe deharme",
    "mikalojus konstantinas ciurlionis": "mk ciurlionis",
    "pierre-auguste renoir": "renoir, pierre auguste renoir, auguste renoir",
    "jeremy lipking": "jeremy lipkin",
    "magali villeneuve": "magali villanueve",
    "antoni gaudi": "antonio gaudi",
    "caravaggio": "carvaggio, michelangelo merisi da caravaggio",
    "black and white": "b & w, b&w, b/w",
    "depth of field": "dof",
    "masterpiece": "master piece",
    "photorealistic": "photo-realistic, foto realistic, photorealistical",
    "hyperrealistic": "hyper-realistic, hyperealistic",
    "hyperdetailed": "hyper detailed",
    "trending on artstation": "trending on art station, tranding on artstation, "
    "trending on arstation, trending on artstation.",
    "artstation": "art station, arstation, #artstation",
    "deviantart": "deviant art, devianart",
    "dramatic lighting": "dramatic lightning",
    "cinematic lighting": "cinematic lightning",
    "volumetric lighting": "volumetric lightning",
    "studio lighting": "studio lightning",
    "vibrant colors": "vibrant colours",
    "pastel colors": "pastel colours, pastell colours",
    "muted colors": "muted colours",
    "vivid colors": "vivid colours",
    "bright colors": "bright colours",
    "sharp focus": "sharp foccus",
    "golden ratio": "golen ratio",
    "watercolor": "watercolour",
    "watercolor painting": "watercolour painting",
    "ultra detailed": "ultradetailed",
    "award winning": "winning award",
}

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
    first = {every_spelling.get(spelling_key(name), spelling_key(name)) for name in split(FIRST)}

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
    for term, others in SPELLINGS.items():
        for other in split(others):
            if spelling_key(other) != spelling_key(term):
                taken.setdefault(spelling_key(other), spelling_key(term))

    def add(category: str, text: str, as_written: bool = True) -> None:
        key = spelling_key(text)
        if key and key not in terms and key not in taken and not BLOCKED.search(key):
            terms[key] = Term(category, text.lower() if as_written else "")

    for category in CATEGORIES:
        for text in published[category]:
            add(category, plain(text))
    for category, texts in CURATED.items():
        for text in split(texts):
            add(category, text)
    names = [line.strip() for line in (sources / SOURCES["artists"]).read_text(encoding="utf-8").splitlines()]
    for name in [*split(ARTISTS), *split(FIRST), *sorted(filter(None, names), key=str.casefold)]:
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
