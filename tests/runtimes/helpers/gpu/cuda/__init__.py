"""What p3m-edge calls of cuda-bindings."""
