"""Run artefacts without PyTorch."""
