"""Training P3M-Net with P3M-CP: losses, feature-level copy and paste, the loop."""
