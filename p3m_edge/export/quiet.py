"""Foreign tools at work without what they tell of themselves: their advice is for their developers."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout


@contextmanager
def quiet(*, stdout: bool = False, stderr: bool = False) -> Iterator[None]:
    """Errors alone are logged and no warnings shown; what is written to the streams that are named goes nowhere."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            if stdout:
                stack.enter_context(redirect_stdout(io.StringIO()))
            if stderr:
                stack.enter_context(redirect_stderr(io.StringIO()))
            yield
    finally:
        logging.disable(level)
