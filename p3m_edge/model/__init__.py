"""P3M-Net in PyTorch: encoders, decoders, unpooling, checkpoints, the deployable module."""
