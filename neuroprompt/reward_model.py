"""A reward model of texts: what a rewrite's picture is expected to gain over the plain prompt's, before one is drawn.

    model = RewardModel(PromptEncoder.from_pretrained("embedded"))
    model.fit([Row("boy on a horse", "boy on a horse, sunset", gain=1.2), …])
    model.predict(["boy on a horse"], ["boy on a horse, 8k"]).gain

It reads what the image generator reads: its text encoder's vectors (see `images.encoder`) of the rewrite t and of the
plain prompt p, as (t, p, t - p, t · p). On these stands an ensemble of small networks (Lakshminarayanan et al. 2017,
arXiv 1612.01474), which differ by how they began and by the weight that each gives to each plain prompt (the Bayesian
bootstrap of Rubin 1981, over prompts, since the rewrites of one are no independent rows).

What it says of a text is a mean over members; that the gain of n pictures is another number has three reasons:

    variance = s² · (variance between members) + c² + σ² / n

σ is the luck of one picture, c what the features do not tell, and s makes the members' spread, which is too narrow
where all are wrong in the same way, as wide as their faults were on prompts that they had not learnt (maximum
a posteriori, `Calibration.of`). Where no text has more pictures than another, c cannot be told from σ, and is 0.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from neuroprompt.files import write_file
from neuroprompt.images.encoder import PromptEncoder
from neuroprompt.models import ModelError, locate

FOLDER = "reward_model"
"""What its folder beside a policy is called."""
FACTS, WEIGHTS, REPLAY = "reward_model.json", "model.safetensors", "replay.safetensors"


class Row(NamedTuple):
    """A rewrite and what its pictures gained.

    Attributes:
        plain, text: The plain prompt and the rewrite.
        gain: Of the rewrite's pictures over the plain prompt's, in the reward's unit: the mean.
        pictures: Over so many pictures of the rewrite.
    """

    plain: str
    text: str
    gain: float
    pictures: int = 1


class Examples(NamedTuple):
    """Rows as the model learns them: vectors of `PromptEncoder`, of beginnings of texts as well.

    Attributes:
        prompts: The plain prompts, n of them: rows of one are learnt, and held out, together.
        plain, text: Their vectors and the rewrites'. (n, width) each
        gain: (n,)
        pictures: (n,)
    """

    prompts: list[str]
    plain: Tensor
    text: Tensor
    gain: Tensor
    pictures: Tensor

    def take(self, rows: Tensor) -> "Examples":
        """Some of them, by their places or a mask."""
        places = torch.arange(len(self.prompts))[rows.cpu()].tolist()
        return Examples([self.prompts[i] for i in places], *(x[rows.to(x.device)] for x in self[1:]))


@dataclass(frozen=True)
class RewardModelConfig:
    """How it is made and learns.

    Args:
        members: Networks of the ensemble.
        hidden: Widths of their layers.
        learning_rate, weight_decay: Of AdamW.
        batch_size: Rows of a step.
        update_passes: How often an `update` draws as many rows as are new.
        fit_steps: Steps of a `fit`, at most.
        patience: Steps without a better loss on held-out prompts after which `fit` ends.
        replay: Rows that `update` remembers, the newest.
        seed: Another seed, other members.

    Raises:
        ValueError: A number is not above 0.
    """

    members: int = 5
    hidden: list[int] = field(default_factory=lambda: [256, 128])
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    batch_size: int = 256
    update_passes: int = 64
    fit_steps: int = 2000
    patience: int = 200
    replay: int = 20_000
    seed: int = 0

    def __post_init__(self):
        for name in ("members", "learning_rate", "batch_size", "update_passes", "fit_steps", "patience", "replay"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}: give a number above 0")


class Prediction(NamedTuple):
    """What rewrites are expected to gain.

    Attributes:
        gain: Expected. (n,)
        error: Standard deviation of what is not known of the expected gain. (n,)
        noise: Standard deviation of one picture's gain around it.
    """

    gain: Tensor
    error: Tensor
    noise: float

    def spread(self, pictures: Tensor | int = 1) -> Tensor:
        """Standard deviation of the mean gain of so many pictures. (n,)"""
        return (self.error**2 + self.noise**2 / pictures).sqrt()


class RewardModel:
    """Learns gains from rows, offline (`fit`) or as they come (`update`), and says what others will gain.

    Args:
        encoder: That of the generator whose pictures gain.
        config: How it is made and learns.
        fitted_to: Whose pictures these are, and by which rewards: ``generator`` and ``rewards`` of
            `PromptReward.settings`.

    Attributes:
        facts: What it was fitted to and with which success, as JSON types; saved with it.
        calibration: What makes an uncertainty of the members' spread.
    """

    def __init__(
        self,
        encoder: PromptEncoder,
        config: RewardModelConfig | None = None,
        fitted_to: Mapping[str, Any] | None = None,
    ):
        self.encoder, self.config = encoder, config or RewardModelConfig()
        self.facts: dict[str, Any] = {"generator": {"name": encoder.name}, **(fitted_to or {}), "rows": 0, "steps": 0}
        self.calibration = Calibration()
        self.ensemble = Ensemble(4 * encoder.width, self.config).to(encoder.device)
        self._optimizer = self._new_optimizer()
        self._replay: _Replay | None = None
        self._faults = torch.zeros(0, 3)  # of rows before they were learnt: see `Calibration.of`

    def _new_optimizer(self) -> torch.optim.AdamW:
        config = self.config
        return torch.optim.AdamW(
            self.ensemble.parameters(), config.learning_rate, weight_decay=config.weight_decay, foreach=True
        )

    # --- predicting --------------------------------------------------------------------------------------------------

    def predict(self, plains: Sequence[str], texts: Sequence[str]) -> Prediction:
        """What each text is expected to gain over its plain prompt, (n,) on the encoder's device."""
        return self.judge(self.encoder.encode(plains), self.encoder.encode(texts))

    def score(self, plains: Sequence[str], texts: Sequence[str]) -> np.ndarray:
        """The expected gains alone, (n,): what `PromptEnhancer.best_of` chooses by."""
        return self.predict(plains, texts).gain.cpu().numpy()

    @torch.no_grad()
    def judge(self, plain: Tensor, text: Tensor) -> Prediction:
        """`predict` for vectors of the encoder, such as those of texts' beginnings. (n, width) each"""
        device = self.encoder.device
        said = torch.cat(
            [
                self.ensemble(features(p, t))
                for p, t in zip(plain.to(device).split(_AT_ONCE), text.to(device).split(_AT_ONCE), strict=True)
            ],
            1,
        )  # (members, n)
        return self.calibration.of_members(said)

    # --- learning ----------------------------------------------------------------------------------------------------

    def examples(self, rows: Sequence[Row]) -> Examples:
        """The rows as vectors; the rows of one text become one.

        Raises:
            ValueError: A gain is not finite, or a row has no picture.
        """
        merged: dict[tuple[str, str], tuple[float, int]] = {}
        for plain, text, gain, pictures in rows:
            if not math.isfinite(gain) or pictures < 1:
                raise ValueError(f"{text[:60]!r} gains {gain} by {pictures} pictures: leave out what is not known")
            total, count = merged.get((plain, text), (0.0, 0))
            merged[plain, text] = total + gain * pictures, count + pictures
        device = self.encoder.device
        pictures = torch.tensor([count for _, count in merged.values()], dtype=torch.float32, device=device)
        total = torch.tensor([total for total, _ in merged.values()], dtype=torch.float64)
        prompts = [plain for plain, _ in merged]
        return Examples(
            prompts,
            self.encoder.encode(prompts),
            self.encoder.encode([text for _, text in merged]),
            (total / pictures.double().cpu()).float().to(device),
            pictures,
        )

    def update(self, new: Sequence[Row] | Examples) -> dict[str, float]:
        """Learn on, from all rows so far and these; deterministic, from the same state.

        The first rows of all set the scales of features and gains: let them be some dozens, of several prompts.
        The rows are predicted before they are learnt: what is said of them calibrates, and is returned.

        Returns:
            Figures of `held_out_figures` for the new rows; none at the first call.
        """
        new = new if isinstance(new, Examples) else self.examples(new)
        if not new.prompts:
            return {}
        figures: dict[str, float] = {}
        if self.facts["steps"]:
            figures = self._held_out(new)
            self._faults = torch.cat([self._faults, self._faults_of(new)])[-_FAULTS:]
            self.calibration = Calibration.of(self._faults)
        else:
            self.ensemble.standardise(new)
        self._replay = _Replay.of(new, self._bootstrap(new.prompts)).after(self._replay, self.config.replay)
        for _ in range(math.ceil(self.config.update_passes * len(new.prompts) / self.config.batch_size)):
            self._step(self._replay)
        self.facts["rows"] += len(new.prompts)
        return figures

    def fit(self, rows: Sequence[Row] | Examples) -> dict[str, float]:
        """Learn from all rows at once, anew.

        A tenth of the prompts, with all their rows, says when to stop, and calibrates; another tenth has no part in
        anything and gives the figures.

        Returns:
            `held_out_figures`, which are in `facts` as ``held_out``, too.

        Raises:
            ValueError: There are fewer than three prompts.
        """
        known = rows if isinstance(rows, Examples) else self.examples(rows)
        learnt, stopping, judged = (known.take(mask) for mask in _split(known.prompts, self.config.seed))
        self.ensemble.reset(self.config)
        self.ensemble.standardise(learnt)
        self._optimizer, self.facts["steps"] = self._new_optimizer(), 0
        replay = _Replay.of(learnt, self._bootstrap(learnt.prompts))
        best, kept, kept_at = math.inf, self.ensemble.state_dict(), 0
        while self.facts["steps"] < min(self.config.fit_steps, kept_at + self.config.patience):
            self._step(replay)
            if self.facts["steps"] % _LOOK == 0 and (loss := self._loss(stopping)) < best:
                best, kept_at = loss, self.facts["steps"]
                kept = {name: x.clone() for name, x in self.ensemble.state_dict().items()}
        self.ensemble.load_state_dict(kept)
        self.calibration = Calibration.of(self._faults_of(stopping))
        self._optimizer, self._replay, self._faults = self._new_optimizer(), None, torch.zeros(0, 3)
        figures = self._held_out(judged)
        self.facts |= {
            "steps": kept_at,
            "rows": len(known.prompts),
            "prompts": len(set(known.prompts)),
            "pictures": int(known.pictures.sum()),
            "held_out": figures,
        }
        return figures

    def _step(self, replay: "_Replay") -> None:
        """A step of AdamW on random rows, which belong to the seed and the step's number."""
        draw = torch.Generator().manual_seed(_hash(self.config.seed, self.facts["steps"]))
        rows = torch.randint(len(replay.gain), (self.config.batch_size,), generator=draw).to(replay.gain.device)
        said = self.ensemble(features(replay.plain[rows].float(), replay.text[rows].float()))  # (members, batch)
        faults = (said - replay.gain[rows]) / self.ensemble.unit
        loss = (replay.weight[rows].T * faults**2).mean()
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        self.facts["steps"] += 1

    def _bootstrap(self, prompts: Sequence[str]) -> Tensor:
        """The weight that each member gives to each row, by its prompt, mean 1. (n, members)"""
        own = {
            prompt: np.random.default_rng(_hash(self.config.seed, prompt)).exponential(size=self.config.members)
            for prompt in dict.fromkeys(prompts)
        }
        return torch.tensor(np.stack([own[p] for p in prompts]), dtype=torch.float32, device=self.encoder.device)

    def _loss(self, rows: Examples) -> float:
        """Mean squared fault, of what the members say together."""
        return float((_weight(rows.pictures) * (self.judge(rows.plain, rows.text).gain - rows.gain) ** 2).mean())

    def _faults_of(self, rows: Examples) -> Tensor:
        """Of each row the fault, the variance between the members, and one over its pictures. (n, 3)"""
        said = Calibration().of_members(self.ensemble(features(rows.plain, rows.text)).detach())
        return torch.stack([rows.gain - said.gain, said.error**2, 1 / rows.pictures], 1).cpu()

    def _held_out(self, rows: Examples) -> dict[str, float]:
        return held_out_figures(rows, self.judge(rows.plain, rows.text))

    # --- saving ------------------------------------------------------------------------------------------------------

    def save(self, folder: str | Path, *, resumable: bool = False) -> None:
        """Write it to a folder: `load` gives it back.

        Args:
            folder: It is made where missing.
            resumable: With the rows and the optimizer's state, so that `update` goes on as if nothing had been.
        """
        folder = Path(folder)
        tensors = {f"ensemble.{name}": x for name, x in self.ensemble.state_dict().items()}
        tensors["probe"] = self.encoder.encode([_PROBE])[0]
        weights = save({name: x.cpu().contiguous() for name, x in tensors.items()})
        if resumable:
            state = {"faults": self._faults}
            for i, own in self._optimizer.state_dict()["state"].items():
                state |= {f"optimizer.{i}.{name}": x for name, x in own.items()}
            if self._replay:
                state |= {f"replay.{name}": x for name, x in self._replay._asdict().items()}
            write_file(folder / REPLAY, save({name: x.cpu().contiguous() for name, x in state.items()}))
        write_file(folder / WEIGHTS, weights)
        facts = self.facts | {
            "config": asdict(self.config),
            "calibration": self.calibration._asdict(),
            "weights": blake2b(weights, digest_size=16).hexdigest(),
        }
        write_file(folder / FACTS, (json.dumps(facts, indent=2, ensure_ascii=False) + "\n").encode())

    @classmethod
    def load(
        cls,
        folder: str | Path,
        encoder: PromptEncoder | None = None,
        device: str | torch.device | None = None,
    ) -> "RewardModel":
        """What `save` wrote.

        Args:
            folder: Where to.
            encoder: That of the generator that draws; by default that of the generator that it was fitted to is loaded,
                without the generator.
            device: Of the encoder that is loaded.

        Raises:
            ModelError: There is none, it is broken, or it was fitted to the pictures of a generator that reads
                otherwise.
        """
        folder, facts = Path(folder), read_facts(folder)
        try:
            weights = (folder / WEIGHTS).read_bytes()
            whole = facts.pop("weights") == blake2b(weights, digest_size=16).hexdigest()
            config, calibration = facts.pop("config"), Calibration(**facts.pop("calibration"))
            config = RewardModelConfig(**config)
            name, tensors = facts["generator"]["name"], load(weights) if whole else {}
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise ModelError(f"the reward model in {folder} is broken ({type(error).__name__}: {error})") from error
        if not whole:
            raise ModelError(f"the reward model in {folder} is half written: fit it again")
        encoder = encoder or PromptEncoder.from_pretrained(name, device)
        probe, known = encoder.encode([_PROBE])[0].cpu(), tensors.pop("probe")
        if probe.shape != known.shape or (probe - known).norm() > _ALIKE * known.norm():
            raise ModelError(
                f"the reward model in {folder} knows the pictures of {name}, and {encoder.name} reads prompts "
                "otherwise: give that generator, or fit one to this"
            )
        made = cls(encoder, config)
        try:
            made.ensemble.load_state_dict({name.removeprefix("ensemble."): x for name, x in tensors.items()})
        except RuntimeError as error:
            raise ModelError(f"the reward model in {folder} is broken: its weights do not fit its config") from error
        made.facts, made.calibration = facts, calibration
        if (folder / REPLAY).exists():
            made._resume(load((folder / REPLAY).read_bytes()))
        return made

    def _resume(self, state: dict[str, Tensor]) -> None:
        device = self.encoder.device
        self._faults = state["faults"]
        if "replay.gain" in state:
            self._replay = _Replay(*(state[f"replay.{name}"].to(device) for name in _Replay._fields))
        own: dict[int, dict[str, Tensor]] = {}
        for name, x in state.items():
            if name.startswith("optimizer."):
                _, i, what = name.split(".")
                own.setdefault(int(i), {})[what] = x
        optimizer = self._optimizer.state_dict()
        self._optimizer.load_state_dict({"state": own, "param_groups": optimizer["param_groups"]})


def beside(policy: str | Path) -> Path:
    """The folder of the reward model that lies beside a policy.

    Raises:
        ModelError: There is none, or no such policy.
    """
    folder = Path(locate(policy, "policy"), FOLDER)
    if not folder.is_dir():
        raise ModelError(f"no reward model lies beside the policy {str(policy)!r}: {MAKE_ONE}")
    return folder


def fitted_to(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of `PromptReward.settings` what gains belong to, and so a `RewardModel`."""
    generator = {name: settings["generator"][name] for name in ("name", "fingerprint")}
    return {"generator": generator, "rewards": settings["rewards"]}


def read_facts(folder: str | Path) -> dict[str, Any]:
    """What the reward model in a folder was fitted to and with which success; ``weights`` is a hash of it.

    Raises:
        ModelError: There is none.
    """
    try:
        facts = json.loads(Path(folder, FACTS).read_bytes())
        if not isinstance(facts, dict) or "weights" not in facts:
            raise ValueError("it holds no facts")
        return facts
    except OSError as error:
        raise ModelError(f"there is no reward model in {folder} ({error.strerror}): {MAKE_ONE}") from error
    except ValueError as error:
        raise ModelError(f"{Path(folder, FACTS)} is broken: {MAKE_ONE}") from error


# --- the networks ------------------------------------------------------------------------------------------------


def features(plain: Tensor, text: Tensor) -> Tensor:
    """What the networks read of vectors of plain prompts and of rewrites: (n, width) each to (n, 4 · width)."""
    return torch.cat([text, plain, text - plain, text * plain], 1)


class Ensemble(nn.Module):
    """Networks of like shape, all in one product.

    Args:
        width: Of the features.
        config: Members, widths, seed.
    """

    def __init__(self, width: int, config: RewardModelConfig):
        super().__init__()
        sizes = list(zip((width, *config.hidden), (*config.hidden, 1), strict=True))
        self.weights = nn.ParameterList(torch.empty(config.members, *size) for size in sizes)
        self.biases = nn.ParameterList(torch.empty(config.members, 1, out) for _, out in sizes)
        for name, shape in (("mean", (width,)), ("scale", (width,)), ("base", ()), ("unit", ())):
            self.register_buffer(name, torch.zeros(shape) if name in ("mean", "base") else torch.ones(shape))
        self.reset(config)

    @torch.no_grad()
    def reset(self, config: RewardModelConfig) -> None:
        """Begin anew, as the seed says. The last layer begins small: what is not known gains what all do."""
        draw = torch.Generator().manual_seed(_hash(config.seed, "members"))
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            gain = 0.1 if i + 1 == len(self.weights) else math.sqrt(2)
            weight.copy_(torch.randn(weight.shape, generator=draw) * gain / math.sqrt(weight.shape[1]))
            bias.zero_()

    @torch.no_grad()
    def standardise(self, rows: Examples) -> None:
        """Take the features' means and scales, and the gains', from these rows."""
        known = features(rows.plain, rows.text)
        self.mean.copy_(known.mean(0))
        scale = known.std(0, correction=0)
        self.scale.copy_(scale + 0.01 * scale.mean() + 1e-6)  # what hardly varies here is not to count for much there
        self.base.copy_(rows.gain.mean())
        self.unit.copy_(rows.gain.std(correction=0) + 1e-6)

    def forward(self, known: Tensor) -> Tensor:
        """What each member says, in the gains' unit: (n, width) to (members, n)."""
        x = ((known - self.mean) / self.scale).clamp(-_FAR, _FAR).expand(len(self.weights[0]), -1, -1)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, nn.functional.silu(x) if i else x, weight)
        return self.base + self.unit * x.squeeze(-1)


class _Replay(NamedTuple):
    """What `_step` draws from; vectors in half precision, since there may be many."""

    plain: Tensor
    text: Tensor
    gain: Tensor
    weight: Tensor  # (n, members)

    @classmethod
    def of(cls, rows: Examples, bootstrap: Tensor) -> "_Replay":
        weight = bootstrap * _weight(rows.pictures)[:, None]
        return cls(rows.plain.half(), rows.text.half(), rows.gain, weight)

    def after(self, older: "_Replay | None", most: int) -> "_Replay":
        """With older rows before these; the newest stay."""
        return self if older is None else _Replay(*(torch.cat(x)[-most:] for x in zip(older, self, strict=True)))


def _weight(pictures: Tensor) -> Tensor:
    """What a row counts: 1 with one picture, and no more than 2, since pictures alone do not tell all of a gain."""
    return 2 * pictures / (pictures + 1)


# --- how sure it is ----------------------------------------------------------------------------------------------


class Calibration(NamedTuple):
    """The terms of the variance (see the head of this file).

    Attributes:
        scale: s, of the members' spread.
        misfit: c, in the gains' unit.
        noise: σ, likewise.
    """

    scale: float = 1.0
    misfit: float = 0.0
    noise: float = 0.0

    @classmethod
    def of(cls, faults: Tensor) -> "Calibration":
        """From what was said of rows that were not learnt.

        The likeliest of a normal distribution; before anything is known, s is about 1, and both others account for the
        faults (each lies within a factor of e² of that, by one standard deviation).

        Args:
            faults: Gain less what was expected, the variance between members, one over the pictures. (n, 3)
        """
        fault, between, inverse = faults.double().unbind(1)
        size = float(fault.square().mean()) + 1e-12
        told_apart = bool(inverse.max() - inverse.min() > 1e-6)
        start = torch.tensor([1.0, size / 2 if told_apart else 0.0, size / 2 / float(inverse.mean())]).double()
        x = torch.zeros(3, dtype=torch.float64, requires_grad=True)  # logarithms of the variances over `start`
        search = torch.optim.LBFGS([x], max_iter=100, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            search.zero_grad()
            scale, misfit, noise = x.exp() * start
            variance = scale * between + misfit + noise * inverse + 1e-9 * size
            value = 0.5 * (variance.log() + fault**2 / variance).sum() + 0.5 * (x / _PRIOR).square().sum()
            value.backward()
            return value.detach()

        search.step(loss)
        return cls(*(x.detach().exp() * start).sqrt().tolist())

    def of_members(self, said: Tensor) -> Prediction:
        """From what each member says. (members, n)"""
        between = said.var(0, correction=1) if len(said) > 1 else torch.zeros_like(said[0])
        return Prediction(said.mean(0), (self.scale**2 * between + self.misfit**2).sqrt(), self.noise)


def held_out_figures(rows: Examples, said: Prediction) -> dict[str, float]:
    """How well rows were predicted that had not been learnt; what cannot be told is left out.

    Returns:
        ``explained_variance`` of the gains; ``within_prompt_r``, the correlation within prompts (prompts' means taken
        off on both sides); ``coverage_90``, how many gains lie within the interval that should hold 90 %; ``chosen``,
        the mean gain of the text that it prefers of each prompt's, against ``mean`` and ``best``.
    """
    gain, expected = rows.gain.double().cpu(), said.gain.double().cpu()
    inside = (gain - expected).abs() <= _NINETY * said.spread(rows.pictures).double().cpu()
    figures = {"coverage_90": float(inside.double().mean())}
    if float(gain.var(correction=0)) > 0:
        figures["explained_variance"] = float(1 - (gain - expected).square().mean() / gain.var(correction=0))
    number = {prompt: i for i, prompt in enumerate(dict.fromkeys(rows.prompts))}
    group = torch.tensor([number[prompt] for prompt in rows.prompts])
    sums = partial(torch.zeros(len(number), dtype=torch.float64).index_add, 0, group)
    count = sums(torch.ones_like(gain))
    means = sums(gain) / count
    own, other = gain - means[group], expected - (sums(expected) / count)[group]
    if float(own.norm() * other.norm()) > 0:
        figures["within_prompt_r"] = float(own @ other / (own.norm() * other.norm()))
    top = partial(torch.full((len(number),), -math.inf, dtype=torch.float64).scatter_reduce, 0, group, reduce="amax")
    preferred = expected == top(expected)[group]
    chosen = sums(gain * preferred) / sums(preferred.double())
    figures |= {"mean": float(means.mean()), "chosen": float(chosen.mean()), "best": float(top(gain).mean())}
    return figures


# --- details -----------------------------------------------------------------------------------------------------

MAKE_ONE = "fit one with training/reward_model.py, or give the folder of another with --rerank-by"
_PROBE = "a portrait of a young woman in a red coat, oil painting, golden hour, by greg rutkowski, 8k"
_ALIKE = 0.05  # of the probe's length: more than half precision changes, and far less than another encoder
_NINETY = 1.6449  # standard deviations that 90 % of a normal distribution lie within
_PRIOR = 2.0  # nats, of a variance
_FAR = 6.0  # standard deviations: beyond, a feature says no more
_AT_ONCE = 8192  # rows
_FAULTS = 4096  # that calibrate, the newest
_LOOK = 10  # steps between two looks at held-out prompts


def _hash(seed: int, what: object) -> int:
    digest = blake2b(f"{seed}:{what}".encode("utf-8", "surrogatepass"), digest_size=7).digest()
    return int.from_bytes(digest, "big")


def _split(prompts: Sequence[str], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which rows are learnt, which stop the learning, and which judge it: by prompt. (n,) each, bool"""
    order = sorted(set(prompts), key=lambda prompt: _hash(seed, f"split {prompt}"))
    if len(order) < 3:
        raise ValueError(f"a reward model wants rows of three prompts at least, and these are of {len(order)}")
    tenth = max(1, len(order) // 10)
    place = {prompt: min(i // tenth, 2) for i, prompt in enumerate(order)}
    places = torch.tensor([place[prompt] for prompt in prompts])
    return places == 2, places == 0, places == 1
