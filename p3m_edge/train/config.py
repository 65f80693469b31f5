"""The settings of a training: TOML, from the presets of this package, a file, and the command line, in that order.

Defaults live in ``presets/p3m-r34.toml`` alone, with their comments; the classes below say types and ranges.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from p3m_edge.arguments import explained
from p3m_edge.data.sample import MatteForm, MattesTurned
from p3m_edge.errors import InputError, UsageError, one_of, suggestion
from p3m_edge.imageio import MaskSource
from p3m_edge.smallfile import parse_toml, read_toml

BASE = "p3m-r34"
PRESETS = (BASE, "p3m-swin-t", "p3m-vitae-s", "mobile", "smoke")
QAT = "qat"
"""What quantisation-aware training changes in a preset."""

_LARGEST = sys.float_info.max  # what is not finite is beyond it

Table = Mapping[str, Mapping[str, object]]
"""Settings as TOML has them: sections of keys."""
Count = Annotated[int, Meta(ge=1)]
Whole = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Part = Literal["encoder", "global_decoder", "local_decoder"]
NotNegative = Annotated[float, Meta(ge=0, le=_LARGEST)]
Positive = Annotated[float, Meta(gt=0, le=_LARGEST)]


@dataclass(frozen=True)
class Model:
    """Which network; the comments of the preset say what each value means, here and below."""

    arch: Literal["r34", "swin-t", "vitae-s", "mobile", "tiny"]
    drop_path: Annotated[float, Meta(ge=0, lt=1)]


@dataclass(frozen=True)
class Data:
    """What the network sees."""

    size: Annotated[int, Meta(ge=32, le=8192, multiple_of=32)]
    crops: Annotated[tuple[Count, ...], Meta(min_length=1)]
    around_unknown: Share
    whole: Share
    flip: Share
    turned: Share
    compose: Share
    backgrounds: str
    walls: Share
    always_compose: tuple[str, ...]
    clothes: Share
    colour: Share
    dark: Share
    grey: Share
    cast: Share
    blur: Share
    noise: Share
    jpeg: Share
    workers: Whole
    cache_mb: Whole
    max_unreadable: Share
    alpha_from: MaskSource
    alpha_turned: MattesTurned
    foregrounds: str
    synth_count: Count
    synth_size: tuple[Annotated[int, Meta(ge=32)], Annotated[int, Meta(ge=32)]]

    @property
    def mattes(self) -> MatteForm:
        """How the mattes are stored."""
        return MatteForm(self.alpha_from, self.alpha_turned)


@dataclass(frozen=True)
class CopyPaste:
    """Which parts of P3M-CP are used."""

    methods: tuple[Literal["icp", "fcp"], ...]


@dataclass(frozen=True)
class ImagePaste:
    """The constants of :class:`p3m_edge.data.copy_paste.ImagePaste`, by the same names."""

    probability: Share
    variant: Literal["vanilla", "augmented", "resize-to-fill"]
    flip: Share
    scale: tuple[Positive, Positive]
    rotation: Annotated[float, Meta(ge=0, le=180)]
    fit: bool
    colour: Share


@dataclass(frozen=True)
class FeaturePaste:
    """The constants of :class:`p3m_edge.train.feature_paste.FeaturePaste`, by the same names."""

    levels: Annotated[tuple[Annotated[int, Meta(ge=0, le=5)], ...], Meta(min_length=1)]
    probability: Share
    from_epoch: Whole
    scale: tuple[Positive, Positive]
    fit: bool
    variant: Literal["copy-paste", "shuffle"]
    source_batch_norm: Literal["frozen", "batch", "update"]


@dataclass(frozen=True)
class Distillation:
    """What a teacher is taken for; see :mod:`p3m_edge.train.distill`."""

    alpha: NotNegative
    local: NotNegative
    logits: NotNegative
    temperature: Positive
    features: NotNegative
    levels: Annotated[tuple[Annotated[int, Meta(ge=2, le=5)], ...], Meta(min_length=1)]
    unlabelled: Annotated[float, Meta(gt=0, lt=1)]
    standin: bool


@dataclass(frozen=True)
class Qat:
    """Quantisation-aware training; see :mod:`p3m_edge.train.qat`."""

    enabled: bool
    pictures: Count


@dataclass(frozen=True)
class Optim:
    """How the weights move."""

    lr: Positive
    encoder_lr: Share
    weight_decay: NotNegative
    schedule: Literal["constant", "linear", "cosine"]
    warmup_steps: Whole
    clip_norm: NotNegative
    ema: Annotated[float, Meta(ge=0, lt=1)]
    frozen: tuple[Part, ...]


@dataclass(frozen=True)
class Run:
    """How long, and on what."""

    epochs: Count
    max_steps: Whole
    batch: Count
    seed: Annotated[int, Meta(ge=0, lt=2**32)]
    device: Literal["auto", "cpu", "cuda", "mps"]
    devices: Count
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]
    sync_batchnorm: bool
    freeze_batchnorm: bool
    channels_last: bool
    half_weights: bool
    licence: str
    checkpoint_every: Count


@dataclass(frozen=True)
class Validation:
    """What is held out, and what is done with it."""

    data: str
    share: Annotated[float, Meta(gt=0, lt=1)]
    every: Count
    limit: Count
    patience: Whole
    sheet: Whole


@dataclass(frozen=True)
class Log:
    """What is written down."""

    every: Count
    tensorboard: bool


@dataclass(frozen=True)
class Config:
    """All settings of a training."""

    model: Model
    data: Data
    copy_paste: CopyPaste
    image_paste: ImagePaste
    feature_paste: FeaturePaste
    distillation: Distillation
    qat: Qat
    optim: Optim
    run: Run
    validation: Validation
    log: Log


def load(preset: str = BASE, file: Path | None = None, overrides: Iterable[str] = (), *, qat: bool = False) -> Config:
    """The settings of a preset, changed by a file, changed by ``SECTION.KEY=VALUE``.

    Parameters
    ----------
    preset
        One of :data:`PRESETS`.
    file
        TOML, with any part of the settings.
    overrides
        Values as TOML writes them; text may go without quotes.
    qat
        Change the preset to quantisation-aware training, before the file and the overrides do.

    Raises
    ------
    UsageError
        A name is unknown (the hint suggests one), or a value has another type or lies outside its range.
    InputError
        The file cannot be read.
    """
    table = _preset(BASE)
    for name in (one_of("preset", preset, PRESETS), *(QAT,) * qat):
        _merge(table, _preset(name), name)
    if file is not None:
        _merge(table, _read(file), str(file))
    return _overridden(table, overrides)


def overridden(config: Config, overrides: Iterable[str]) -> Config:
    """The settings changed by ``SECTION.KEY=VALUE``; raises :class:`UsageError` as :func:`load` does."""
    return _overridden(to_table(config), overrides)


def restored(table: Table) -> Config:
    """The settings of a stored training; those that its version did not know are the defaults."""
    whole = _preset(BASE)
    _merge(whole, table, "the stored settings")
    return from_table(whole)


def from_table(table: Table) -> Config:
    """The settings from nested tables that hold all of them; raises :class:`UsageError` as :func:`load` does."""
    try:
        config = msgspec.convert(table, Config)
    except msgspec.ValidationError as error:
        raise _explained(error) from None
    except OverflowError as error:  # a whole number where a float is wanted
        raise UsageError(f"a setting is too large a number: {error}") from None
    data, levels, parts = config.data, config.distillation.levels, set(get_args(Part))
    for wrong, told, hint in (
        (data.clothes and not data.compose, "data.clothes takes textures from backgrounds",
         "data.compose=0.5 data.backgrounds=FOLDER"),
        (data.walls and not (data.whole and data.compose), "data.walls needs views and composites",
         "data.whole=0.55 data.compose=0.5 data.backgrounds=FOLDER"),
        (data.compose and not data.backgrounds, "data.compose needs backgrounds", "data.backgrounds=FOLDER"),
        (len(set(levels)) != len(levels), f"distillation.levels must be different, not {list(levels)}", None),
        (set(config.optim.frozen) == parts, "optim.frozen leaves nothing that could learn", "leave out a part of it"),
    ):  # fmt: skip
        if wrong:
            raise UsageError(told, hint=hint)
    return config


def to_table(config: Config) -> dict[str, dict[str, object]]:
    """Nested tables of plain values; the inverse of :func:`from_table`."""
    table: dict[str, dict[str, object]] = msgspec.to_builtins(config)
    return table


def to_toml(config: Config) -> str:
    """The settings as TOML that :func:`load` takes."""
    sections = (
        f"[{name}]\n" + "".join(f"{key} = {msgspec.json.encode(value).decode()}\n" for key, value in section.items())
        for name, section in to_table(config).items()
    )
    return "\n".join(sections)  # what JSON writes for numbers, text, booleans and lists is TOML as well


def changed(before: Config, after: Config) -> list[str]:
    """The settings that differ, as ``section.key``."""
    old, new = to_table(before), to_table(after)
    return [f"{name}.{key}" for name, section in new.items() for key in section if section[key] != old[name][key]]


def _preset(name: str) -> dict[str, dict[str, object]]:
    return tomllib.loads((files("p3m_edge.train") / "presets" / f"{name}.toml").read_text("utf-8"))


def _read(path: Path) -> dict[str, object]:
    try:
        found = read_toml(path)
    except OSError as error:
        raise InputError(f"the settings {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}", hint="see the presets for the form") from error
    if not found:
        raise UsageError(f"{path} holds no settings", hint="see the presets for the form")
    return found


def _overridden(table: dict[str, dict[str, object]], overrides: Iterable[str]) -> Config:
    for text in overrides:
        name, _, value = (part.strip() for part in text.partition("="))
        section, _, key = name.partition(".")
        if not key or "=" not in text:
            raise UsageError(f"--set {text!r} is not SECTION.KEY=VALUE", hint="for example --set optim.lr=1e-4")
        try:
            parsed = parse_toml(f"value = {value}")["value"]
        except (ValueError, RecursionError):  # no TOML, or numbers and lists beyond what Python reads
            parsed = value
        _merge(table, {section: {key: parsed}}, "--set")
    return from_table(table)


def _merge(table: dict[str, dict[str, object]], changes: Mapping[str, object], source: str) -> None:
    """Put the changes into the table, which holds every setting; ``source`` stands before errors."""
    for section, values in changes.items():
        if section not in table:
            raise UsageError(f"{source}: unknown section {section!r}", hint=suggestion(section, table))
        if not isinstance(values, Mapping):
            raise UsageError(f"{source}: {section} is a section, not a value", hint=f"write [{section}]")
        for key in values:
            if key not in table[section]:
                name, known = f"{section}.{key}", [f"{section}.{known}" for known in table[section]]
                raise UsageError(f"{source}: unknown setting {name}", hint=suggestion(name, known))
        table[section].update(values)


def _explained(error: msgspec.ValidationError) -> UsageError:
    """The error for one of msgspec; it names the choices that there are."""
    where, what = explained(error)
    what = what.replace(f"float <= {_LARGEST}", "finite numbers")
    section, _, key = where.partition(".")
    kind = get_type_hints(get_type_hints(Config)[section])[key] if key.isidentifier() else None
    hint = f"choose from: {', '.join(get_args(kind))}" if get_origin(kind) is Literal else None
    return UsageError(f"{where or 'settings'}: {what}", hint=hint)
