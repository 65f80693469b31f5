"""Video: a source of frames, stages that matte, steady and compose them, a sink for what comes out; no PyTorch.

>>> with FileSource("clip.mp4") as source, Matting("out/openvino-fp16") as matting:  # doctest: +SKIP
...     for frame, alpha in MattingStream(source, matting):
...         show(frame, alpha)

:func:`matte_video` makes video files of a video file.
"""

from p3m_edge.video.background import VideoBackground
from p3m_edge.video.camera import CameraSource
from p3m_edge.video.codecs import Codec, Format
from p3m_edge.video.convert import Converted, Kind, matte_video
from p3m_edge.video.frame import Frame, Matted, Timings
from p3m_edge.video.read import FileSource, VideoInfo
from p3m_edge.video.sink import SequenceSink, Sink, VirtualCameraSink, WindowSink
from p3m_edge.video.source import ArraySource, ImageSource, PacedSource, SequenceSource, Source
from p3m_edge.video.stabilise import Stabiliser
from p3m_edge.video.stream import MattingStream, Render, Stage, TimedRender
from p3m_edge.video.write import FileSink

__all__ = [
    "ArraySource",
    "CameraSource",
    "Codec",
    "Converted",
    "FileSink",
    "FileSource",
    "Format",
    "Frame",
    "ImageSource",
    "Kind",
    "Matted",
    "MattingStream",
    "PacedSource",
    "Render",
    "SequenceSink",
    "SequenceSource",
    "Sink",
    "Source",
    "Stabiliser",
    "Stage",
    "TimedRender",
    "Timings",
    "VideoBackground",
    "VideoInfo",
    "VirtualCameraSink",
    "WindowSink",
    "matte_video",
]
