"""How the mattes of a data set are stored, for the verbs that read one."""

from __future__ import annotations

import argparse

from p3m_edge.data.sample import MATTES_TURNED, PLAIN, MatteForm
from p3m_edge.imageio import MASK_SOURCES


def add_arguments(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """``--alpha-from`` and ``--alpha-turned``."""
    parser.add_argument(
        "--alpha-from", choices=MASK_SOURCES, metavar="WHAT",
        help="what of an alpha's file is the matte: grey, its grey values, if nothing speaks against them (default); "
        "alpha, its alpha channel; mask, not 0 is foreground; 8-bit, 0..255 in a file of 16 bits; values, its grey "
        "values whatever speaks against them",
    )  # fmt: skip
    parser.add_argument(
        "--alpha-turned", choices=MATTES_TURNED, metavar="HOW",
        help="mattes of pictures that are turned by their EXIF data: check that they are upright (default), take them "
        "as upright, or turn them as the pictures, as they are of raw pixels",
    )  # fmt: skip


def matte_form(args: argparse.Namespace) -> MatteForm:
    """What the options say."""
    return MatteForm(args.alpha_from or PLAIN.source, args.alpha_turned or PLAIN.turned)


def settings(args: argparse.Namespace) -> tuple[str, ...]:
    """What the options say, as settings of a training."""
    given = (("alpha_from", args.alpha_from), ("alpha_turned", args.alpha_turned))
    return tuple(f"data.{name}={value}" for name, value in given if value is not None)
