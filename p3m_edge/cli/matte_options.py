"""How the mattes of a data set are stored, for the verbs that read one."""

from __future__ import annotations

import argparse

from p3m_edge.data.sample import MatteForm
from p3m_edge.imageio import MASK_SOURCES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--alpha-from`` and ``--alpha-turned``."""
    parser.add_argument(
        "--alpha-from", choices=MASK_SOURCES, default="grey", metavar="WHAT",
        help="what of an alpha's file is the matte: grey, its grey values, if nothing speaks against them (default); "
        "alpha, its alpha channel; mask, not 0 is foreground; 8-bit, 0..255 in a file of 16 bits; values, its grey "
        "values whatever speaks against them",
    )  # fmt: skip
    parser.add_argument(
        "--alpha-turned", choices=("check", "upright", "raw"), default="check", metavar="HOW",
        help="mattes of pictures that are turned by their EXIF data: check that they are upright (default), take them "
        "as upright, or turn them as the pictures, as they are of raw pixels",
    )  # fmt: skip


def matte_form(args: argparse.Namespace) -> MatteForm:
    """What the options say."""
    return MatteForm(args.alpha_from, args.alpha_turned)
