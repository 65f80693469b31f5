"""The package that has the runtime's interface."""
