"""The Swift file of a Core ML artefact: what an app needs to matte a frame with it. Compiled by nobody yet."""

from __future__ import annotations

from p3m_edge.export import forms
from p3m_edge.export.graph import INPUT
from p3m_edge.export.request import ExportRequest
from p3m_edge.targets import Target

FILE = "Matte.swift"
_SOURCE = """// Made by p3m-edge for {target} ({arch}, {width}x{height}). Not compiled and not run on a device.
// Add {model_file} to the app's target; Xcode compiles it to a .mlmodelc, whose URL goes to init.

import CoreML
import CoreVideo
import Foundation

@available({available}, *)
public final class Matte {{
    public static let width = {width}
    public static let height = {height}

    public enum Failure: Error {{
        case size(width: Int, height: Int)
        case format(OSType)
        case output
    }}

    private let model: MLModel

    public init(compiledModel url: URL, units: MLComputeUnits = .all) throws {{
        let configuration = MLModelConfiguration()
        configuration.computeUnits = units
        model = try MLModel(contentsOf: url, configuration: configuration)
    }}

    /// Mattes one frame. Safe to call from one thread at a time.
    ///
    /// - Parameter frame: {width} x {height} pixels, `kCVPixelFormatType_32BGRA`; Core ML turns it into the RGB that
    ///   the network takes. Mean and scale are in the network: pass the pixels as they are.
    /// - Returns: {returns}
    public func alpha(of frame: CVPixelBuffer) throws -> {type} {{
        let width = CVPixelBufferGetWidth(frame), height = CVPixelBufferGetHeight(frame)
        guard width == Matte.width, height == Matte.height else {{
            throw Failure.size(width: width, height: height)
        }}
        let format = CVPixelBufferGetPixelFormatType(frame)
        guard format == kCVPixelFormatType_32BGRA else {{
            throw Failure.format(format)
        }}
        let input = try MLDictionaryFeatureProvider(dictionary: ["{input}": MLFeatureValue(pixelBuffer: frame)])
        let output = try model.prediction(from: input)
        guard let alpha = output.featureValue(for: "alpha")?.{value} else {{
            throw Failure.output
        }}
        return alpha
    }}
}}
"""
_KINDS = {
    "image": ("one channel, `kCVPixelFormatType_OneComponent16Half`, 0 to 1.", "CVPixelBuffer", "imageBufferValue"),
    "array": ("`[1, 1, {height}, {width}]`, {number}, 0 to 1.", "MLMultiArray", "multiArrayValue"),
}


def source(arch: str, target: Target, request: ExportRequest) -> str:
    """Swift for one artefact: of a network, for a target, in the requested form."""
    width, height = request.width, request.height
    returns, kind, value = _KINDS[forms.alpha(target, request.alpha)]
    number = "float32" if target.precision == "fp32" else "half precision"
    release = forms.minimum(target, request)
    return _SOURCE.format(
        target=target.name, arch=arch, model_file=target.model_file, width=width, height=height, input=INPUT,
        returns=returns.format(width=width, height=height, number=number), type=kind, value=value,
        available=f"iOS {release}, macOS {forms.SYSTEMS[release].removeprefix('macOS')}",
    )  # fmt: skip
