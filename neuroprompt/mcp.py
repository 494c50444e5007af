"""The Model Context Protocol: what an assistant may ask of neuroprompt, as tools with typed answers.

    create_server(models).run("stdio")                   # neuroprompt mcp
    async with Client(create_server(models)) as client:  # in memory, as the tests do
        await client.call_tool("enhance", {"prompt": "boy on a horse"})

A client is answered at once, however long models take to load: the policy is loaded meanwhile, and the rest when it is
first needed. One call is worked at a time; it says how far it is, and ends where its client cancels it. What a call
cannot do is the tool's error, in a line. Nothing that a caller says is a path, and nothing is written, unless the
operator gave a folder: there pictures are put, under names of ours, and of there they can be scored.

Standard output belongs to the protocol: the SDK's transport turns whatever else is printed to standard error.
"""

import base64
import binascii
import io
import secrets
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from anyio import CapacityLimiter, create_task_group, from_thread, to_thread
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, ImageContent, TextContent, ToolAnnotations
from PIL import Image
from pydantic import BaseModel, Field, ValidationError

from neuroprompt import __version__
from neuroprompt.completions import check_prompt
from neuroprompt.decoding import Constraints
from neuroprompt.extras import explained
from neuroprompt.families import Family, find_family
from neuroprompt.image_files import decode_image, on_white
from neuroprompt.modifiers import CATEGORIES, suggestions
from neuroprompt.programs import mendable, quiet_libraries
from neuroprompt.server.schemas import Category, IfBetter, ModifierEntry, ModifiersAnswer, Rewriter, Verdict, Wish

if TYPE_CHECKING:
    from neuroprompt.enhancer import PromptEnhancer
    from neuroprompt.images import ImageGenerator
    from neuroprompt.rewards import RewardSet

SIDE, BYTES = 1568, 500_000
"""Of a picture that is answered, at most: the pixels of its longer side, more than which vision models do not look at,
and the bytes of its file; some clients refuse an answer of a megabyte."""
FRESH = 8
"""Seeds that the find of a search, and the plain prompt beside it, are measured with."""

_T = TypeVar("_T")
Report = Callable[[int, str], None]
"""Takes how much is done, and what. It raises where the client has cancelled the call."""


@dataclass(frozen=True)
class Models:
    """What the tools work with. Each is called where it is needed, and loads what it gives the first time.

    Attributes:
        policy: Rewrites; it takes one of `names`.
        searcher: Proposes to `optimize`.
        names: Of the policies that may be asked; the first is by default.
        family: Of the generators that rewrites are for, where a call says none.
    """

    policy: "Callable[[str], PromptEnhancer]"
    searcher: "Callable[[], PromptEnhancer]"
    generator: "Callable[[], ImageGenerator]"
    rewards: "Callable[[], RewardSet]"
    names: tuple[str, ...] = ("embedded",)
    family: Family | None = None


# --- what is answered --------------------------------------------------------------------------------------------


class Modifier(BaseModel):
    text: str
    category: str | None = Field(description=f"{', '.join(CATEGORIES)}, or null.")


class Rewrite(BaseModel):
    text: str = Field(description="The finished prompt: the user's words, then the modifiers; or prose that has them.")
    negative: str | None = Field(description="What to give the generator as the negative prompt, if it takes one.")
    modifiers: list[Modifier]
    clip_tokens: int = Field(description="Its length in the tokens of CLIP, which reads 77.")
    warning: str | None = Field(description="Why nothing was added, or the user's words came back, if so.")
    if_better: Verdict | None = Field(None, description="What pictures said of the rewrite, where they were asked.")


class Rewrites(BaseModel):
    results: list[Rewrite]


class Scores(BaseModel):
    results: list[dict[str, float]] = Field(description="For each picture what each reward says; more is better.")


class Cell(BaseModel):
    text: str = Field(description="What was drawn.")
    scores: dict[str, float] = Field(description="Of each reward the mean over the pictures; more is better.")


class Row(BaseModel):
    prompt: str
    plain: Cell
    rewrite: Cell


class Comparison(BaseModel):
    rows: list[Row]
    file: str | None = Field(description="The picture's name in the server's folder; null where it has none.")


class Find(BaseModel):
    text: str = Field(description="The best prompt that was found; it may be the user's own.")
    modifiers: list[str]
    gain: float | None = Field(description="Of the reward over the plain prompt's pictures, measured on fresh seeds.")
    gain_error: float | None = Field(description="The standard error of that.")
    pictures: int = Field(description="How many were drawn.")
    warning: str | None = Field(description="Why nothing was searched, if nothing was.")


# --- the tools ---------------------------------------------------------------------------------------------------

Prompt = Annotated[str, Field(min_length=1, max_length=2000, description="What the picture should show, in English.")]
Seed = Annotated[int, Field(ge=0, lt=2**63, description="Another seed gives other results; the same, the same.")]
How = Annotated[Rewriter | None, Field(description="Which model rewrites, for which generators, and what it keeps.")]
Limits = Annotated[Wish | None, Field(description="What the rewrite must and must not say.")]


def create_server(models: Models, folder: Path | None = None) -> MCPServer:
    """A server of all tools.

    Args:
        folder: Where pictures are put, and may be read from by name; without it neither is done.
    """
    one_at_a_time = CapacityLimiter(1)

    @asynccontextmanager
    async def lifespan(_: MCPServer) -> AsyncIterator[None]:
        async def load() -> None:
            with suppress(Exception):  # whoever asks for it tries again, and is told
                first = partial(models.policy, models.names[0])
                await to_thread.run_sync(_quietly, first, limiter=one_at_a_time, abandon_on_cancel=True)

        async with create_task_group() as tasks:
            tasks.start_soon(load)
            yield
            tasks.cancel_scope.cancel()

    async def work(context: Context, total: int, task: Callable[[Report], _T]) -> _T:
        """Have a thread do what models take, when it is this call's turn; it comes to so much, as it counts itself."""

        def report(done: int, what: str) -> None:
            from_thread.check_cancelled()
            from_thread.run(context.report_progress, done, total, what)

        await context.report_progress(0, total, "waiting for the models")
        try:
            return await to_thread.run_sync(_quietly, lambda: task(report), limiter=one_at_a_time)
        except Exception as error:
            if line := mendable(error):
                raise ToolError(line) from None
            raise

    server = _Server(
        "neuroprompt",
        title="neuroprompt",
        instructions="Rewrites plain prompts for image generators as their experts write them, draws and scores both.",
        version=__version__,
        lifespan=lifespan,
        log_level="ERROR",  # or each refused call is logged, with what was asked
    )

    def tool(title: str, hints: ToolAnnotations) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Make a function a tool; its docstring, on one line, is what a model reads of it."""
        return lambda function: server.tool(
            title=title, description=" ".join((function.__doc__ or "").split()), annotations=hints
        )(function)

    reads = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
    writes = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False)

    @tool("Rewrite a prompt", reads)
    async def enhance(
        prompt: Prompt,
        context: Context,
        variants: Annotated[int, Field(ge=1, le=16, description="How many rewrites.")] = 1,
        seed: Seed = 0,
        constraints: Limits = None,
        rewriter: How = None,
        negative: Annotated[str | None, Field(max_length=2000, description="What the picture must not show.")] = None,
        if_better: IfBetter = 0,
    ) -> Rewrites:
        """Rewrite a plain prompt for an image generator: the user's words stay, and modifiers follow them (artists,
        styles, formats, perspectives, boosters, vibes), as expert users choose them; or, by a model that retells, prose
        has them. Takes a second, and a model that retells some more; with `if_better` as long as the generator does."""

        def task(report: Report) -> Rewrites:
            reward = _reward(models, if_better, seed) if if_better else None
            enhancer, settings = _asked(models, rewriter)
            settings |= {"num_return_sequences": variants, "seed": seed, "negative": negative}
            made = enhancer(prompt, wish := _wish(constraints), **settings)
            made = made if variants > 1 else [made]
            if not reward:
                return Rewrites(results=[_rewrite(one) for one in made])
            from neuroprompt.gate import Gate, kept

            negatives = [reward.generator.negative_for(one.negative) for one in made]
            verdicts = Gate(reward, pictures=if_better)(
                [prompt] * len(made),
                [one.text for one in made],
                negatives,
                on_progress=lambda done, _: report(done, "drawing"),
            )
            results = [_rewrite(kept(one, verdict, wish), verdict) for one, verdict in zip(made, verdicts, strict=True)]
            return Rewrites(results=results)

        return await work(context, 2 * if_better * variants or 1, task)

    @tool("Find modifiers", reads)
    def modifiers(
        category: Annotated[Category | None, Field(description="Of this kind alone; of all by default.")] = None,
        search: Annotated[str | None, Field(max_length=200, description="Only terms that hold these letters.")] = None,
        limit: Annotated[int, Field(ge=1, le=1000, description="Of each kind, at most.")] = 20,
    ) -> ModifiersAnswer:
        """List modifiers that may be asked of `enhance`, and how many of two million real prompts hold each."""
        kinds = [category] if category else CATEGORIES
        found = [(kind, term, count) for kind in kinds for term, count in suggestions(kind, limit, search)]
        return ModifiersAnswer(
            modifiers=[ModifierEntry(category=kind, modifier=term, prompts=count) for kind, term, count in found]
        )

    files = "PNG, JPEG or WebP files in base64" + (", or names of files in the server's folder." if folder else ".")

    @tool("Score pictures", reads)
    async def score(
        prompt: Prompt,
        pictures: Annotated[list[str], Field(min_length=1, max_length=16, description=files)],
        context: Context,
    ) -> Scores:
        """Say how good pictures are, and how well they show what was wished for: by PickScore, CLIP and an aesthetic
        head, or what else the operator has chosen."""

        def task(report: Report) -> Scores:
            check_prompt(prompt)
            opened = [decode_image(_file(picture, folder)) for picture in pictures]
            judge, results = models.rewards(), []
            for done, picture in enumerate(opened):
                results.append(judge.score_picture(prompt, picture))
                report(done + 1, "scoring")
            return Scores(results=results)

        return await work(context, len(pictures), task)

    @tool("Draw and compare", writes if folder else reads)
    async def grid(
        prompts: Annotated[list[Prompt], Field(min_length=1, max_length=6, description="Plain prompts, a row each.")],
        context: Context,
        rewrites: Annotated[
            list[Prompt] | None,
            Field(description="What to draw beside them, one for each, such as your own; by default their rewrites."),
        ] = None,
        images_per_prompt: Annotated[int, Field(ge=1, le=4, description="Pictures of each, with as many seeds.")] = 1,
        seed: Seed = 0,
        constraints: Limits = None,
        rewriter: How = None,
    ) -> Annotated[CallToolResult, Comparison]:
        """Draw plain prompts and their rewrites side by side, with the same seeds, and score both. Gives one picture of
        all of it. Takes from seconds to minutes, as the generator does."""
        if rewrites is not None and len(rewrites) != len(prompts):
            raise ToolError(f"{len(rewrites)} rewrites for {len(prompts)} prompts: give one for each")
        for name, given in (("constraints are", constraints), ("a rewriter is", rewriter)):
            if rewrites is not None and given is not None:
                raise ToolError(f"{name} for rewrites of ours, and rewrites are given: leave one of the two out")

        def task(report: Report) -> CallToolResult:
            from neuroprompt.evaluation.comparison import compare_texts
            from neuroprompt.pages.grid import draw_grid, save_grid

            reward = _reward(models, images_per_prompt, seed)
            made, negatives = rewrites, [None] * len(prompts)
            if made is None:
                enhancer, settings = _asked(models, rewriter)
                found = enhancer(prompts, _wish(constraints), seed=seed, **settings)
                made = [one.text for one in found]
                negatives = [reward.generator.negative_for(one.negative) for one in found]
            sheet = compare_texts(
                prompts,
                [*zip(prompts, made, strict=True)],
                ["plain", "enhanced" if rewrites is None else "rewrite"],
                reward,
                range(seed, seed + images_per_prompt),
                on_progress=lambda done: report(done, "drawing"),
                negatives=[(None, negative) for negative in negatives],
            )
            name = None
            if folder:
                name = f"grid-{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}.png"
                save_grid(sheet, folder / name)
            cells = [[Cell(text=cell.text, scores=cell.scores) for cell in row] for row in sheet.rows]
            rows = [Row(prompt=p, plain=a, rewrite=b) for p, (a, b) in zip(prompts, cells, strict=True)]
            answer = Comparison(rows=rows, file=name)
            return CallToolResult(
                content=[_picture(draw_grid(sheet)), TextContent(type="text", text=answer.model_dump_json())],
                structured_content=answer.model_dump(),
            )

        return await work(context, 2 * images_per_prompt * len(prompts), task)

    @tool("Search for the best prompt", reads)
    async def optimize(
        prompt: Prompt,
        context: Context,
        budget: Annotated[int, Field(ge=4, le=256, description="The pictures that it may draw; 64 is plenty.")] = 64,
        seed: Seed = 0,
        constraints: Limits = None,
    ) -> Find:
        """Search for the rewrite of a prompt whose pictures are worth most, by drawing many and scoring them. Better
        than `enhance`, and takes minutes: as long as the generator takes for so many, and some to measure the gain."""

        def task(report: Report) -> Find:
            from neuroprompt.search import SearchConfig
            from neuroprompt.search import optimize as search

            drawn = count(1)
            found = search(
                prompt,
                _reward(models, 2, seed),
                models.searcher(),
                SearchConfig(budget=budget, held_out=FRESH, seed=seed),
                constraints=_wish(constraints),
                on_picture=lambda: report(next(drawn), "drawing"),
            )
            return Find(
                text=found.text,
                modifiers=list(found.modifiers),
                gain=found.held_out,
                gain_error=found.held_out_error,
                pictures=found.images + found.held_out_images,
                warning=found.warning,
            )

        return await work(context, budget + 2 * FRESH, task)

    return server


class _Server(MCPServer):
    """Errors in one line each, and none of a caller's mistakes passed over."""

    async def call_tool(self, name: str, arguments: dict[str, Any], context: Context | None = None) -> Any:
        known = next((tool.input_schema["properties"] for tool in await self.list_tools() if tool.name == name), None)
        if known is not None and (unknown := [argument for argument in arguments if argument not in known]):
            raise ToolError(f"{name} takes no {unknown[0]!r}: it takes {', '.join(known)}")
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            if isinstance(error.__cause__, ValidationError):
                wrong = error.__cause__.errors()[0]
                raise ToolError(f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}") from None
            raise


# --- parts of them -----------------------------------------------------------------------------------------------


def _quietly(work: Callable[[], _T]) -> _T:
    quiet_libraries()
    try:
        with explained():
            return work()
    finally:
        sys.stdout.flush()  # while the transport turns it elsewhere: what is held to the end would reach the client


def _wish(wish: Wish | None) -> Constraints | None:
    return Constraints(**wish.model_dump()) if wish else None


def _asked(models: Models, rewriter: Rewriter | None) -> "tuple[PromptEnhancer, dict[str, Any]]":
    """The policy that a call asks, and settings of its decoding.

    Raises:
        ValueError: It is none of those that there are, or cannot be asked so.
    """
    how = rewriter or Rewriter()
    if how.model is not None and how.model not in models.names:
        raise ValueError(f"model: {how.model!r} is not served here: choose from {', '.join(models.names)}")
    family = find_family(how.family) if how.family else models.family
    enhancer = models.policy(how.model or models.names[0]).asked(how.instruction, family)
    return enhancer, {"keep": how.keep, "keep_words": how.keep_words}


def _rewrite(made: Any, verdict: Any = None) -> Rewrite:
    return Rewrite(
        text=made.text,
        negative=made.negative,
        modifiers=[Modifier(**one._asdict()) for one in made.modifiers],
        clip_tokens=made.clip_tokens,
        warning=made.warning,
        if_better=verdict and Verdict(**verdict.facts()),
    )


def _reward(models: Models, images_per_prompt: int, seed: int) -> Any:
    from neuroprompt.scoring import PromptReward

    return PromptReward(models.generator(), models.rewards(), images_per_prompt=images_per_prompt, seed=seed)


def _file(picture: str, folder: Path | None) -> bytes:
    """A picture's file, as it was sent or as it lies in the folder.

    Raises:
        ValueError: It is neither.
    """
    if folder and (found := next((path for path in folder.iterdir() if path.name == picture), None)):
        return found.read_bytes()
    try:
        return base64.b64decode(picture.rpartition(",")[2] if picture.startswith("data:") else picture, validate=True)
    except (binascii.Error, ValueError):
        where = ", and no file in the server's folder" if folder else ""
        raise ValueError(f"{picture[:60]!r} is no base64{where}") from None


def _picture(sheet: Image.Image) -> ImageContent:
    """As an answer can hold it."""
    sheet = on_white(sheet)
    sheet.thumbnail((SIDE, SIDE))
    for quality in (90, 75, 50, 25):
        file = io.BytesIO()
        sheet.save(file, format="JPEG", quality=quality)
        if file.tell() <= BYTES:
            break
    return ImageContent(type="image", data=base64.b64encode(file.getvalue()).decode(), mime_type="image/jpeg")
