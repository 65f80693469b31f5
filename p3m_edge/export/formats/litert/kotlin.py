"""The Kotlin file of a LiteRT artefact: what an Android app needs to matte a camera frame.

A test compiles it where there is a Kotlin compiler, against the members of Android's classes that it uses. It has not
been run on a device.
"""

from __future__ import annotations

from p3m_edge.export.graph import INPUT
from p3m_edge.export.request import ExportRequest
from p3m_edge.runtimes.engines.litert import SIGNATURE
from p3m_edge.targets import Target

FILE = "Matte.kt"
_SOURCE = """// Made by p3m-edge for {target} ({arch}, {width}x{height}). Not run on a device.
// Put {model_file} into the app's assets and give init a buffer that maps it; in the app's Gradle file:
//     implementation("com.google.ai.edge.litert:litert:1.4.0")  and  androidResources {{ noCompress += "tflite" }}

package p3m_edge

import android.graphics.Bitmap
import android.graphics.Color
import androidx.camera.core.ImageProxy
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.tensorflow.lite.Interpreter

/** Mattes frames, from one thread at a time. The model is in memory until [close]. */
class Matte(model: ByteBuffer, threads: Int = 4) : AutoCloseable {{
    companion object {{
        const val WIDTH = {width}
        const val HEIGHT = {height}
    }}

    private val interpreter = Interpreter(model, Interpreter.Options().setNumThreads(threads))
    private val pixels = IntArray(WIDTH * HEIGHT)
    private val image = ByteBuffer.allocateDirect(WIDTH * HEIGHT * 3).order(ByteOrder.nativeOrder())
    private val alpha = ByteBuffer.allocateDirect(WIDTH * HEIGHT * 4).order(ByteOrder.nativeOrder())

    /**
     * The alpha of a frame of `ImageAnalysis` with `OUTPUT_IMAGE_FORMAT_RGBA_8888`; the caller closes the frame.
     *
     * The frame is not turned: give `ImageAnalysis` `setOutputImageRotationEnabled(true)`, or turn it before.
     */
    fun alpha(frame: ImageProxy): Bitmap {{
        val plane = frame.planes[0]
        require(plane.pixelStride == 4) {{ "the frame is not RGBA_8888" }}
        // A row may be longer than the frame is wide.
        val stored = Bitmap.createBitmap(plane.rowStride / 4, frame.height, Bitmap.Config.ARGB_8888)
        val bytes = ByteBuffer.allocateDirect(stored.byteCount)
        bytes.put(plane.buffer.duplicate().apply {{ rewind() }})
        bytes.rewind()
        stored.copyPixelsFromBuffer(bytes)
        return alpha(Bitmap.createBitmap(stored, 0, 0, frame.width, frame.height))
    }}

    /**
     * The alpha of a picture: a bitmap `ALPHA_8` of WIDTH x HEIGHT, to be drawn over all of the picture.
     *
     * The picture is scaled to the network's size, whatever its shape. Mean and scale are in the network.
     */
    fun alpha(picture: Bitmap): Bitmap {{
        val scaled = Bitmap.createScaledBitmap(picture, WIDTH, HEIGHT, true)
        scaled.getPixels(pixels, 0, WIDTH, 0, 0, WIDTH, HEIGHT)
        image.rewind()
        for (pixel in pixels) {{
            image.put(Color.red(pixel).toByte())
            image.put(Color.green(pixel).toByte())
            image.put(Color.blue(pixel).toByte())
        }}
        image.rewind()
        alpha.rewind()
        interpreter.runSignature(mapOf("{input}" to image), mapOf("alpha" to alpha), "{signature}")
        alpha.rewind()
        val matte = ByteBuffer.allocateDirect(WIDTH * HEIGHT)
        repeat(WIDTH * HEIGHT) {{ matte.put(Math.round(alpha.getFloat() * 255f).coerceIn(0, 255).toByte()) }}
        matte.rewind()
        return Bitmap.createBitmap(WIDTH, HEIGHT, Bitmap.Config.ALPHA_8).apply {{ copyPixelsFromBuffer(matte) }}
    }}

    override fun close() = interpreter.close()
}}
"""


def kotlin_source(arch: str, target: Target, request: ExportRequest) -> str:
    """Kotlin for one artefact: of a network, for a target, in the requested size."""
    return _SOURCE.format(
        target=target.name, arch=arch, model_file=target.model_file, width=request.width, height=request.height,
        input=INPUT, signature=SIGNATURE,
    )  # fmt: skip
