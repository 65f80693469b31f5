"""``Matting``: an artefact folder becomes a function from frame to alpha."""

from __future__ import annotations

import threading
import warnings
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Self, get_args

import numpy as np
from numpy.typing import NDArray

from p3m_edge import arguments
from p3m_edge.errors import InputError, UsageError, one_of, shown
from p3m_edge.manifest import Manifest
from p3m_edge.preprocess import Colour, Frame, Resize, to_network
from p3m_edge.refine import Place, guide
from p3m_edge.runtimes import golden, opening, people
from p3m_edge.runtimes.contract import EngineOptions, Hint, Images
from p3m_edge.runtimes.engine import Engine, Ticket, closed, open_engine
from p3m_edge.runtimes.forks import bind
from p3m_edge.runtimes.golden import SelfTest
from p3m_edge.runtimes.size import fitting_size

# What has been submitted but not collected is kept; more than this is a forgotten collect().
_MAX_PENDING = 64


class Matting:
    """An artefact, loaded and ready: ``alpha = matting(frame)``.

    Every method may be called from any thread; concurrent calls give the same answers as calls in a row. Close it
    with :meth:`close` or a ``with`` block.

    In another process, a child that a fork made or one that it was sent to as a pickle, it opens its folder again when
    it is first used there, with nothing pending; the folder must be there. What is closed stays closed.

    Parameters
    ----------
    folder
        The artefact: the folder that ``p3m-edge export`` wrote.
    device, threads, hint
        Where and how to run; see :class:`~p3m_edge.runtimes.contract.EngineOptions`. None: the processor (TensorRT:
        the first GPU), with as many threads as the engine thinks best.
    resize
        How a frame meets the network's size: ``stretch`` (fills it, as in training) or ``letterbox`` (keeps the
        aspect, adds bars).
    colour
        The channel order of the frames: ``RGB``, or ``BGR`` as OpenCV reads them.
    dtype
        Of the alphas returned: ``float32`` in 0..1, or ``uint8`` in 0..255.
    refine
        Bring the alpha to the frame's size by a guided filter, so that it follows the frame's edges
        (:mod:`p3m_edge.refine`), and not by interpolation alone.
    select
        Whose alpha is wanted (:data:`~p3m_edge.runtimes.people.Who`): ``all``, ``largest``, how many of the largest, a
        point (x, y) or a box (x, y, width, height) in pixels of the frame. The others' falls to 0. It may be set
        again between frames.
    size
        ``(width, height)`` of the network for artefacts of dynamic size. None: the frame's aspect at an area of at
        most 512 x 512 pixels and never larger than the frame, each side rounded to the multiple that the network
        needs, within the sizes that a TensorRT engine was built for. For artefacts of fixed size it must be None or
        that size; of several, one of them (None: the first).
    cache, cache_dir
        Whether and where compiled models are kept between starts (:mod:`p3m_edge.runtimes.cache`).
    sequence
        The frames follow each other, as those of a camera: an artefact that smooths its mattes (``smoothing`` in its
        manifest) mixes each with the one before, until :meth:`reset`. Else every frame is by itself.
    check
        Compare the files with their hashes before any of them is parsed. Turn it off only for files that this
        process has just written or checked.

    Raises
    ------
    ArtefactError
        No artefact; one that is rejected, damaged, of a newer schema or for a newer engine.
    MissingError
        The engine or the device is not here, or would not be the one used.
    UsageError
        An option that is unknown, impossible or of another type, or an impossible size.

    Examples
    --------
    >>> with Matting("out/openvino-fp16") as matting:  # doctest: +SKIP
    ...     alpha = matting(frame)
    """

    def __init__(
        self,
        folder: str | Path,
        device: str | None = None,
        threads: int | None = None,
        hint: Hint = "latency",
        *,
        resize: Resize = "stretch",
        colour: Colour = "RGB",
        dtype: opening.DType = "float32",
        refine: bool = True,
        select: people.Who = "all",
        size: tuple[int, int] | None = None,
        cache: bool = True,
        cache_dir: str | Path | None = None,
        sequence: bool = False,
        check: bool = True,
    ) -> None:
        named = arguments.path("an artefact's folder", folder)
        self._resize: Resize = one_of("resize", resize, get_args(Resize))
        self._colour: Colour = one_of("colour order", colour, get_args(Colour))
        self._dtype = np.uint8 if one_of("dtype", dtype, get_args(opening.DType)) == "uint8" else np.float32
        self._refine = arguments.switch("refine", refine)
        self.select = select
        self._size = arguments.size(size)
        self._check = arguments.switch("check", check)
        where = None if cache_dir is None else arguments.path("cache_dir", cache_dir)
        self._options = EngineOptions(device, threads, hint, cache, where, sequence)
        self._folder = opening.absolute(named)
        self._closed = False
        self._start_afresh()
        self._opened: opening.Opened | None = opening.open_artefact(named, self._options, self._size, check=self._check)
        level = self.manifest.verified.level
        if level != "device":
            text = f"{named} has not been verified on a device (verified: {level}); selftest() does it"
            warnings.warn(text, opening.UnverifiedWarning, stacklevel=2)
        if self.manifest.unpool == "nearest":
            text = f"{named} has nearest upsampling: a speed floor for benchmarks, not P3M-Net"
            warnings.warn(text, opening.OtherNetworkWarning, stacklevel=2)

    def _start_afresh(self) -> None:
        """In another process: nothing is pending, and the artefact is opened when it is used."""
        self._lock = threading.Lock()
        self._opened = None
        self._pending: deque[tuple[Ticket, Place]] = deque()
        bind(self)

    def forked(self) -> None:
        """In a child of its process."""
        if self._opened is not None:
            self._opened.engine.forked()
        self._start_afresh()

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name not in ("_lock", "_opened", "_pending")}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        self._start_afresh()

    def _here(self) -> opening.Opened:
        """What is loaded in this process; loaded now, where that has not been done yet."""
        if self._opened is not None:
            return self._opened
        with self._lock:
            if self._opened is None:
                if self._closed:
                    raise closed()
                self._opened = opening.open_artefact(self._folder, self._options, self._size, check=self._check)
            return self._opened

    @property
    def folder(self) -> Path:
        """The artefact, as a path from the root."""
        return self._folder

    @property
    def manifest(self) -> Manifest:
        """What the artefact says about itself, for the size in use."""
        return self._here().manifest

    @property
    def engine(self) -> Engine:
        """The engine at work."""
        return self._here().engine

    @property
    def info(self) -> opening.MattingInfo:
        """The artefact and the engine at work."""
        m = self.manifest
        return opening.MattingInfo(
            str(self.folder), m.target, m.precision, m.model.arch, m.model.trained, m.verified.level,
            m.input.width, m.input.height, m.input.batch, self.engine.info,
        )  # fmt: skip

    @property
    def colour(self) -> Colour:
        """The channel order of the frames."""
        return self._colour

    @property
    def select(self) -> people.Who:
        """Whose alpha is wanted; of frames that are collected later, too."""
        return self._select

    @select.setter
    def select(self, who: people.Who) -> None:
        self._select = people.check_who(who)

    @property
    def pending(self) -> int:
        """How many frames have been submitted and not yet collected."""
        return len(self._pending)

    def __call__(self, frame: Frame) -> opening.Alpha:
        """The alpha of one frame.

        Parameters
        ----------
        frame
            ``[H, W, 3]``, uint8 or float in 0..1, of any size and strides; never written to, and copied only where
            its form demands it.

        Returns
        -------
        alpha
            ``[H, W]``, of the chosen dtype; memory of its own.

        Raises
        ------
        InputError
            The frame has another shape or dtype, is empty, or holds NaN or values outside 0..1.
        UsageError
            It has been closed.
        """
        image, place = self.prepare(frame)
        return self.finish(self.engine.infer(self._fill([image]))["alpha"][0, 0], place)

    def selection(self, frame: Frame) -> people.Selection:
        """The alpha of one frame, as of a call, with the number of people in view and whether those kept touch."""
        image, place = self.prepare(frame)
        alpha = place.back(self.engine.infer(self._fill([image]))["alpha"][0, 0], self._dtype)
        return people.select(alpha, self._select)

    def batch(self, frames: Iterable[Frame]) -> list[opening.Alpha]:
        """The alphas of several frames, which may differ in size.

        An artefact with a batch of N takes N frames at a time (the last lot is padded); one with a batch of 1 keeps
        several requests at work. Errors are those of a single call; none of the frames is then answered.
        """
        if not isinstance(frames, Iterable):
            raise InputError(f"a batch is a row of frames, not {shown(frames)}")
        engine, source = self.engine, iter(frames)
        at_work: deque[tuple[Ticket, list[Place]]] = deque()
        alphas: list[opening.Alpha] = []

        def finish() -> None:
            ticket, places = at_work.popleft()
            found = engine.collect(ticket)["alpha"]
            alphas.extend(self.finish(found[index, 0], place) for index, place in enumerate(places))

        while lot := self._prepare_some(islice(source, self.manifest.input.batch)):
            images, places = zip(*lot, strict=True)
            at_work.append((engine.submit(self._fill(images)), list(places)))
            if len(at_work) > engine.info.requests + 1:  # enough to keep the engine busy
                finish()
        while at_work:
            finish()
        return alphas

    def _prepare_some(self, frames: Iterable[Frame]) -> list[tuple[Images, Place]]:
        """Frames that the network takes together: all at the size of the first, which may vary with the frame."""
        prepared: list[tuple[Images, Place]] = []
        for frame in frames:
            size = prepared[0][0].shape[1::-1] if prepared else None
            image, place = self.prepare(frame, size)
            prepared.append((_own(image, frame), place))
        return prepared

    def submit(self, frame: Frame) -> None:
        """Begin with a frame and return without waiting for its alpha; :meth:`collect` gives it.

        The frame may be overwritten as soon as this returns. It never waits for a ``collect()``: up to 64 frames
        may be pending (small network inputs and alphas, not frames, are kept); a camera loop looks at
        :attr:`pending` and drops a frame rather than fall behind. Errors are those of a single call, raised here if
        they concern the frame.

        Raises
        ------
        UsageError
            64 frames wait to be collected.
        """
        image, place = self.prepare(frame)
        images = self._fill([_own(image, frame)])
        engine = self.engine
        with self._lock:
            if len(self._pending) >= _MAX_PENDING:
                raise UsageError(f"{_MAX_PENDING} submitted frames have not been collected", hint="call collect()")
            self._pending.append((engine.submit(images), place))

    def collect(self) -> opening.Alpha:
        """The alpha of the frame that was submitted first of those not collected; waits until it is done.

        Raises
        ------
        UsageError
            Nothing is pending, or it was closed before the frame's turn.
        """
        engine = self.engine
        with self._lock:
            if not self._pending:
                raise UsageError("nothing has been submitted that is not collected yet")
            ticket, place = self._pending.popleft()
        return self.finish(engine.collect(ticket)["alpha"][0, 0], place)

    def reset(self) -> None:
        """Forget the frames before: the next one begins a sequence, such as another scene."""
        self.engine.reset()

    def network_size(self, frame: Frame) -> tuple[int, int]:
        """The network's (width, height) for a frame; it depends on the frame for artefacts of dynamic size alone."""
        here = self._here()
        if here.size is not None:
            return here.size
        step = here.manifest.input.multiple_of
        if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.size == 0:
            return step, step  # preprocessing says what is wrong with it
        height, width = frame.shape[:2]
        return fitting_size(width, height, step, here.profile)

    def prepare(self, frame: Frame, size: tuple[int, int] | None = None) -> tuple[Images, Place]:
        """The first part of a call: the frame as ``[height, width, 3]`` of the network, and the way back.

        ``size`` (width, height) overrules the choice for artefacts of dynamic size.
        """
        width, height = arguments.size(size) or self.network_size(frame)
        image, geometry = to_network(frame, height, width, self._resize, self._colour)
        return image, Place(geometry, guide(frame, image, geometry, self._colour) if self._refine else None)

    def begin(self, image: Images) -> Ticket:
        """The part between the two, not waited for: :attr:`engine` collects it, ``["alpha"][0, 0]`` is the alpha."""
        return self.engine.submit(self._fill([image]))

    def finish(self, alpha: NDArray[np.float32], place: Place) -> opening.Alpha:
        """The last part of a call: the network's alpha ``[height, width]`` at the frame's size and chosen dtype."""
        found = place.back(alpha, self._dtype)
        return found if self._select == "all" else people.select(found, self._select).alpha

    def selftest(self) -> SelfTest:
        """Run the golden vectors through the engine, all outputs, and hold them against the parity limits.

        Of an artefact for several sizes, or with a state, everything that it can do is tested. Golden vectors that
        cannot be read are an ``ArtefactError``.
        """

        def opened(manifest: Manifest) -> AbstractContextManager[Engine]:
            if manifest == self.manifest and manifest.smoothing is None:
                return nullcontext(self.engine)
            return open_engine(manifest, self.folder, replace(self._options, sequence=True))

        return golden.selftest(self.manifest, self.folder, opened)

    def close(self) -> None:
        """Finish what is at work and free the model; closing again does nothing."""
        with self._lock:
            self._closed, opened = True, self._opened
        if opened is not None:
            opened.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _fill(self, images: Sequence[Images]) -> Images:
        """``[N, height, width, 3]`` of the artefact's batch, padded with zeros; no copy for a batch of one."""
        batch = self.manifest.input.batch
        if batch == 1:
            return images[0][np.newaxis]
        filled = np.zeros((batch, *images[0].shape), np.uint8)
        filled[: len(images)] = images
        return filled


def _own(image: Images, frame: Frame) -> Images:
    """The network's input, to be read later; it may be the frame itself, which its owner may overwrite."""
    return image.copy() if np.may_share_memory(image, frame) else image
