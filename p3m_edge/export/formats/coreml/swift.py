"""The Swift file of a Core ML artefact: what an app needs to matte a frame with it. Compiled by nobody yet."""

from __future__ import annotations

from collections.abc import Sequence

from p3m_edge.export.formats.coreml import options
from p3m_edge.export.graph import INPUT
from p3m_edge.export.request import ExportRequest
from p3m_edge.manifest_schema import FunctionRecord
from p3m_edge.targets import SYSTEMS, Target

FILE = "Matte.swift"
_SOURCE = """// Made by p3m-edge for {target} ({arch}, {sizes}). Not compiled and not run on a device.
// Add {model_file} to the app's target; Xcode compiles it to a .mlmodelc, whose URL goes to init.

import CoreML
import CoreVideo
import Foundation

@available({available}, *)
public final class Matte {{
{size}
    public enum Failure: Error {{
        case size(width: Int, height: Int)
        case format(OSType)
        case output
    }}

    private let model: MLModel
{state}
    public init(compiledModel url: URL, {parameter}units: MLComputeUnits = .all) throws {{
        let configuration = MLModelConfiguration()
        configuration.computeUnits = units
{choice}        model = try MLModel(contentsOf: url, configuration: configuration)
{begin}    }}
{reset}
    /// Mattes one frame. Safe to call from one thread at a time.{note}
    ///
    /// - Parameter frame: {frame} pixels, `kCVPixelFormatType_32BGRA`; Core ML turns it into the RGB that
    ///   the network takes. Mean and scale are in the network: pass the pixels as they are.
    /// - Returns: {returns}
    public func alpha(of frame: CVPixelBuffer) throws -> {type} {{
        let width = CVPixelBufferGetWidth(frame), height = CVPixelBufferGetHeight(frame)
        guard width == {place}.width, height == {place}.height else {{
            throw Failure.size(width: width, height: height)
        }}
        let format = CVPixelBufferGetPixelFormatType(frame)
        guard format == kCVPixelFormatType_32BGRA else {{
            throw Failure.format(format)
        }}
        let input = try MLDictionaryFeatureProvider(dictionary: ["{input}": MLFeatureValue(pixelBuffer: frame)])
        let output = try model.prediction(from: input{using})
        guard let alpha = output.featureValue(for: "alpha")?.{value} else {{
            throw Failure.output
        }}
        return alpha
    }}
}}
"""
_KINDS = {
    "image": ("one channel, `kCVPixelFormatType_OneComponent16Half`, 0 to 1.", "CVPixelBuffer", "imageBufferValue"),
    "array": ("`[1, 1, height, width]`, {number}, 0 to 1.", "MLMultiArray", "multiArrayValue"),
}


def swift_source(arch: str, target: Target, request: ExportRequest) -> str:
    """Swift for one artefact: of a network, for a target, in the requested form."""
    functions = options.functions(request)
    returns, kind, value = _KINDS[options.alpha(target, request.alpha)]
    release = options.minimum(target, request)
    return _SOURCE.format(
        target=target.name, arch=arch, model_file=target.model_file, input=INPUT, type=kind, value=value,
        sizes=", ".join(f"{width}x{height}" for width, height in request.sizes),
        available=f"iOS {release}, macOS {SYSTEMS[release].removeprefix('macOS')}",
        returns=returns.format(number="float32" if target.precision == "fp32" else "half precision"),
        size=_sizes(functions) if functions else _size(request.width, request.height),
        place="size" if functions else "Matte",
        frame="of `size`," if functions else f"{request.width} x {request.height}",
        parameter=f"size: Size = .{functions[0].name}, " if functions else "",
        choice=_CHOICE if functions else "",
        **{part: "" if request.smoothing is None else text for part, text in _STATE.items()},
    )  # fmt: skip


_STATE = {
    "state": "    private var state: MLState\n",
    "begin": "        state = model.makeState()\n",
    "reset": """
    /// Forgets the frames before. Call it when a frame does not follow the one before it, such as in another scene.
    public func reset() {
        state = model.makeState()
    }
""",
    "note": " Frames are to come in their order:\n    /// each matte is mixed with the one before it.",
    "using": ", using: state",
}
"""What a state adds."""

_CHOICE = """        configuration.functionName = size.rawValue
        self.size = size
"""


def _size(width: int, height: int) -> str:
    return f"    public static let width = {width}\n    public static let height = {height}\n"


def _sizes(functions: Sequence[FunctionRecord]) -> str:
    """The sizes as an enumeration whose raw values are the package's functions."""
    lines = [
        "    /// The sizes of the frame. The package has a function for each; they share its weights.",
        "    public enum Size: String, CaseIterable {",
        *(f"        case {each.name}" for each in functions),
    ]
    for side in ("width", "height"):
        lines += [
            "", f"        public var {side}: Int {{", "            switch self {",
            *(f"            case .{each.name}: return {getattr(each, side)}" for each in functions),
            "            }", "        }",
        ]  # fmt: skip
    return "\n".join([*lines, "    }", "", "    public let size: Size", ""])
