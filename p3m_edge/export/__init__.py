"""From a checkpoint to verified artefacts."""
