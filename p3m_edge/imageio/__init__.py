"""Files become pictures and arrays become files: the only place where that happens.

Pillow decodes, as it reports damage that other decoders paper over with grey. OpenCV adds what Pillow reduces to
8 bits or does not know: 16-bit colour and float TIFF. LittleCMS, by Pillow, knows what the colours mean.
"""

from p3m_edge.imageio.colour import ProfileError, convert
from p3m_edge.imageio.decode import MAX_PIXELS, TooLargeError, count_frames, read_size
from p3m_edge.imageio.files import IMAGE_SUFFIXES, composed, list_images, open_regular, stem
from p3m_edge.imageio.masks import MASK_SOURCES, MaskError, MaskSource, decode_mask, read_mask
from p3m_edge.imageio.orientation import orientation_fault, turn
from p3m_edge.imageio.picture import NAMELESS, InMemory, Picture, as_picture, read_image, size_of
from p3m_edge.imageio.transparency import fill_hidden, flatten
from p3m_edge.imageio.write import PNG_RESULT_TEXT, png_bytes, write_png

__all__ = [
    "IMAGE_SUFFIXES",
    "MASK_SOURCES",
    "MAX_PIXELS",
    "NAMELESS",
    "PNG_RESULT_TEXT",
    "InMemory",
    "MaskError",
    "MaskSource",
    "Picture",
    "ProfileError",
    "TooLargeError",
    "as_picture",
    "composed",
    "convert",
    "count_frames",
    "decode_mask",
    "fill_hidden",
    "flatten",
    "list_images",
    "open_regular",
    "orientation_fault",
    "png_bytes",
    "read_image",
    "read_mask",
    "read_size",
    "size_of",
    "stem",
    "turn",
    "write_png",
]
