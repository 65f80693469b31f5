"""A model format that the package does not have, sketched as one adds it: this folder, and a row for the registry."""
