"""What a run shows: results on stdout, progress, warnings and errors on stderr."""

from p3m_edge.cli.ui.console import Console, Part, to_json
from p3m_edge.cli.ui.show import Bars, counting, megabytes, number, progress, red

__all__ = ["Bars", "Console", "Part", "counting", "megabytes", "number", "progress", "red", "to_json"]
