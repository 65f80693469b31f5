"""p3m-edge: privacy-preserving portrait matting, from training to the device."""

__version__ = "0.1.0"
