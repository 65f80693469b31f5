"""The loop: frames are read, matted and finished at the same time, in threads with short queues between them.

What differs between a file and a camera is one word of the source. A file blocks, and no frame is lost; of a camera the
newest frame is taken when its result can be used at once, and those that came in between are dropped and counted.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from p3m_edge import arguments
from p3m_edge.arrays import Array, Pixels
from p3m_edge.errors import UsageError
from p3m_edge.refine import Place
from p3m_edge.runtimes import Matting
from p3m_edge.runtimes.contract import Images
from p3m_edge.runtimes.engine import Ticket
from p3m_edge.video.follow import Follower, View
from p3m_edge.video.frame import Alpha, Frame, Matted, Timings, eight_bits
from p3m_edge.video.source import ArraySource, Source
from p3m_edge.video.stabilise import Stabiliser

Render = Callable[[Array, Alpha], Pixels]
"""From a frame's picture ``[H, W, 3]`` and its alpha ``[H, W]`` to the picture that is shown."""
T = TypeVar("T")


@runtime_checkable
class TimedRender(Protocol):
    """A render that differs from time to time, as a video behind the subject does.

    It may have ``colour``, the order of its channels: one that the matting does not take is then an error.
    """

    def at(self, time: float) -> Render:
        """That of a frame's time, in seconds since its source began."""


def rendered(render: Render | TimedRender, frame: Frame, alpha: Alpha) -> Pixels:
    """The picture of a frame."""
    of_now = render.at(frame.time) if isinstance(render, TimedRender) else render
    return of_now(frame.image, alpha)


_PATIENCE = 10.0  # seconds for a source of the app's own to notice that it was closed


class Stage(Protocol):
    """What changes the mattes of one stream at the network's size, with a state of its own."""

    def __call__(self, alpha: NDArray[np.float32], image: Images, time: float) -> NDArray[np.float32]:
        """The next frame's matte ``[height, width]``, 0..1; ``image`` is what the network saw, ``time`` in seconds."""


class _Queue(Generic[T]):
    """A short queue between two threads; with ``newest``, what comes replaces what was not taken."""

    def __init__(self, depth: int, *, newest: bool = False) -> None:
        self._items: deque[T] = deque()
        self._depth, self._newest = depth, newest
        self._changed, self._ended, self._closed = threading.Condition(), False, False
        self.error: BaseException | None = None

    def put(self, item: T) -> bool:
        """Add an item; False: nobody takes any more."""
        with self._changed:
            if self._newest:
                self._items.clear()
            else:
                self._changed.wait_for(self._has_room)
            if self._closed:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def take(self) -> T | None:
        """The next item, waiting for it; None: there are no more, because of ``error`` if there is one."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._ended or self._items)
            if self._closed or not self._items:
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def wait_for_room(self) -> bool:
        """Wait until an item can be put without waiting; False: nobody takes any more."""
        with self._changed:
            self._changed.wait_for(self._has_room)
            return not self._closed

    def is_empty(self) -> bool:
        """Whether taking an item would have to wait."""
        return not self._items

    def end(self, error: BaseException | None = None) -> None:
        """After what is in it comes the end, or an error."""
        with self._changed:
            self._ended, self.error = True, error
            self._changed.notify_all()

    def close(self) -> None:
        """Nobody takes any more; whoever waits goes on."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()

    def _has_room(self) -> bool:
        return self._closed or len(self._items) < self._depth


@dataclass(frozen=True, eq=False)
class _Begun:
    """A frame that the network is working on."""

    frame: Frame
    image: Images
    place: Place
    ticket: Ticket
    view: View | None
    taken: float
    began: float
    dropped: int


@dataclass(frozen=True, eq=False)
class _Inferred:
    begun: _Begun
    alpha: NDArray[np.float32]
    done: float


class MattingStream:
    """The mattes of a source's frames, in their order; iterate once.

    Close it, by a ``with`` block or by iterating to the end: the source is closed with it, the matting is not. Several
    streams may share a matting, at the same time; the state of each (stabiliser, dropped frames) is its own.

    Parameters
    ----------
    source
        Frames, or arrays ``[H, W, 3]`` that the app has. None: the app gives each frame to :meth:`push`.
    matting
        An open artefact. One with ``sequence=True`` has a state of its own, and serves one stream alone.
    stabilise
        Steady the mattes in time (:mod:`p3m_edge.video.stabilise`), or a stage that does something else there.
    effect
        Makes the picture of each result, such as a :class:`~p3m_edge.video.background.VideoBackground`; None: none is.
    follow
        The network looks at the part of the frame around the person (:mod:`p3m_edge.video.follow`), one frame after the
        other. The matting's ``select`` must be ``all`` or ``largest``.

    Raises
    ------
    UsageError
        An argument of another type, or it is iterated again.
    InputError, P3MEdgeError
        While iterating, after the frames before it: the source, the network or the effect failed.
    """

    def __init__(
        self, source: Source | Iterable[Pixels] | None, matting: Matting, *, stabilise: bool | Stage = True,
        effect: Render | TimedRender | None = None, follow: bool = False,
    ) -> None:  # fmt: skip
        arguments.instance("the matting", matting, Matting)
        if not callable(stabilise):
            stabilise = Stabiliser() if arguments.switch("stabilise", stabilise) else _unchanged
        if effect is not None and not callable(effect) and not isinstance(effect, TimedRender):
            raise UsageError("an effect is a function of a frame and its alpha")
        if source is not None and not hasattr(source, "live"):
            source = ArraySource(source)
        self._source = cast(Source | None, source)
        for what, given in (("source", source), ("effect", effect)):
            order = getattr(given, "colour", None)
            if order not in (None, matting.colour):
                text = f"the {what} gives {order}, and the matting takes {matting.colour}"
                raise UsageError(text, hint="give both the same colour=")
        self._matting, self._stage, self._effect = matting, stabilise, effect
        self._follower = Follower() if arguments.switch("follow", follow) else None
        if follow and matting.select not in ("all", "largest"):
            raise UsageError("with follow=True, select is 'all' or 'largest': places in the frame are not followed")
        self._live = self._source is None or self._source.live
        # Enough to keep the engine busy; one, where the next frame is late already or waits for what was found.
        self._at_work = 1 if self._live or follow else matting.engine.info.requests + 1
        self._frames = _Queue[Frame](2, newest=self._live)
        self._inferred, self._results = _Queue[_Inferred](1), _Queue[Matted](1)
        self._threads: list[threading.Thread] = []
        self._starting, self._pushed, self._began = threading.Lock(), 0, 0.0
        self.dropped = 0
        """How many frames of a live source were replaced by a newer one before their turn came."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Matted]:
        self._start()
        try:
            while (result := self._results.take()) is not None:
                yield result
            if self._results.error is not None:
                raise self._results.error
        finally:
            self.close()

    def push(self, image: Pixels, time_stamp: float | None = None) -> None:
        """Give the next frame, where the app owns the camera; it never waits, and the array may be overwritten after.

        Parameters
        ----------
        image
            ``[H, W, 3]``, uint8 or uint16.
        time_stamp
            Seconds; None: the time that has passed since the first one.

        Raises
        ------
        UsageError
            The stream has a source.
        P3MEdgeError
            It has ended because of this error, or the callback's.
        """
        if self._source is not None:
            raise UsageError("this stream reads its frames from a source")
        if self._results.error is not None:
            raise self._results.error
        now = time.perf_counter()
        self._began = self._began or now
        seconds = now - self._began if time_stamp is None else time_stamp
        self._frames.put(Frame(np.array(image), self._pushed, seconds, now))
        self._pushed += 1

    def finish(self) -> None:
        """No more frames will be pushed: the iteration ends after the last one."""
        self._frames.end()

    def run(self, callback: Callable[[Matted], object]) -> threading.Thread:
        """Call back with each result, in a thread that ends with the stream; its errors come out of :meth:`push`."""

        def work() -> None:
            try:
                for result in self:
                    callback(result)
            except BaseException as error:  # noqa: BLE001 - it is raised where the next frame is pushed
                self._results.end(error)

        thread = threading.Thread(target=work, name="matting-callback", daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        """Stop: frames that are on their way are thrown away."""
        if self._source is not None:
            self._source.close()
        for queue in (self._frames, self._inferred, self._results):
            queue.close()
        for thread in self._threads:
            thread.join(_PATIENCE)

    def _start(self) -> None:
        with self._starting:
            if self._threads:
                raise UsageError("a stream is iterated once")
            work = [(self._matte, self._inferred), (self._finish_all, self._results)]
            if self._source is not None:
                work.insert(0, (self._read, self._frames))
            self._threads = [
                threading.Thread(target=_carry_out, args=each, name=f"matting{each[0].__name__}", daemon=True)
                for each in work
            ]
            for thread in self._threads:
                thread.start()

    def _read(self) -> None:
        for frame in cast(Source, self._source):
            if not self._frames.put(frame):
                return

    def _matte(self) -> None:
        begun: deque[_Begun] = deque()
        expected = 0
        while self._inferred.wait_for_room() and (frame := self._frames.take()) is not None:
            self.dropped += frame.index - expected if self._live else 0
            expected = frame.index + 1
            begun.append(self._begin(frame))
            while begun and (len(begun) >= self._at_work or self._frames.is_empty()):
                one = begun.popleft()
                alpha = self._matting.engine.collect(one.ticket)["alpha"][0, 0]
                if self._follower is not None and one.view is not None:
                    self._follower.found(alpha, one.place.geometry, one.view)
                if not self._inferred.put(_Inferred(one, alpha, time.perf_counter())):
                    return
        if self._frames.error is not None:
            raise self._frames.error

    def _begin(self, frame: Frame) -> _Begun:
        taken = time.perf_counter()
        shape = getattr(frame.image, "shape", ())
        view = None if self._follower is None or len(shape) < 2 else self._follower.view(shape, frame.time)
        image, place = self._matting.prepare(eight_bits(frame.image if view is None else frame.image[view]))
        began = time.perf_counter()
        return _Begun(frame, image, place, self._matting.begin(image), view, taken, began, self.dropped)

    def _finish_all(self) -> None:
        while self._results.wait_for_room() and (item := self._inferred.take()) is not None:
            if not self._results.put(self._finish(item)):
                return
        if self._inferred.error is not None:
            raise self._inferred.error

    def _finish(self, item: _Inferred) -> Matted:
        begun, frame = item.begun, item.begun.frame
        start = time.perf_counter()
        alpha = self._stage(item.alpha, begun.image, frame.time)
        steadied = time.perf_counter()
        refined = self._matting.finish(alpha, begun.place)
        if begun.view is not None:
            part, refined = refined, np.zeros(frame.image.shape[:2], refined.dtype)
            refined[begun.view] = part
        finished = time.perf_counter()
        picture = None if self._effect is None else rendered(self._effect, frame, refined)
        end = time.perf_counter()
        seconds = (
            begun.taken - frame.captured, begun.began - begun.taken, item.done - begun.began, steadied - start,
            finished - steadied, end - finished, end - frame.captured,
        )  # fmt: skip
        return Matted(frame, refined, picture, Timings(*(1e3 * each for each in seconds)), begun.dropped)


def _carry_out(work: Callable[[], None], out: _Queue[T]) -> None:
    """A thread's work; what ends it is said to whoever takes its results."""
    error = None
    try:
        work()
    except BaseException as caught:  # noqa: BLE001 - it is raised where the results are taken
        error = caught
    out.end(error)


def _unchanged(alpha: NDArray[np.float32], image: Images, time: float) -> NDArray[np.float32]:
    return alpha
