"""The mattes on the HTML page: a slider between two of them for each portrait, their difference, and a zoom.

The page carries each photograph and each alpha once; its script composites and subtracts. All pictures travel in one
JSON block, which browsers do not run, with everything that could end the block written as an escape.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from html import escape
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.benchmarks.results import Report
from p3m_edge.benchmarks.samples import PAGE_SIDE, VISIBLE, Mattes, Portrait

_QUALITY = 86
_PREFERRED = ("int8", "w8a8", "pal4", "pal6", "fp16")  # what a float32 reference is compared with first
_TRUTH, _PHOTO = "truth", "photo"


def section(report: Report, mattes: Mattes | None) -> str:
    """The portraits with their controls and data, or why there are none."""
    if mattes is None:
        return ""
    head = f'<section id="mattes"><h2>Mattes</h2>{_failures(mattes)}'
    labels = [row.label for row in report.rows if mattes.portraits and row.label in mattes.portraits[0].mattes]
    if not labels:
        return f"{head}<p>No row could be used for the mattes of the sample pictures.</p></section>"
    ids = {label: f"r{number}" for number, label in enumerate(labels)}
    data = json.dumps(_data(mattes, ids))
    for character in "<>&":
        data = data.replace(character, f"\\u{ord(character):04x}")
    reference = mattes.accuracy.reference
    note = (
        f"Reference: {reference}. Pictures are at most {PAGE_SIDE} pixels on the longer side here (photographs JPEG, "
        f"alphas 8-bit PNG; {len(data) / 1e6:.1f} MB in all); the figures are measured at the full size. Composites "
        "blend the photograph's own pixels, without estimating the subject's colours, so that nothing is hidden."
    )
    figures = "".join(_figure(number, portrait) for number, portrait in enumerate(mattes.portraits))
    return (
        f'{head}<p class="note">{escape(note)}</p>'
        "<noscript><p>The pictures are drawn by the script in this page, and scripts are switched off.</p></noscript>"
        f"{_controls(report, mattes, ids)}{figures}"
        f'<script type="application/json" id="pictures">{data}</script></section>'
    )


def _failures(mattes: Mattes) -> str:
    """The rows that could not matte, and why."""
    lines = "".join(
        f"<li><strong>{escape(label)}</strong> has no mattes: {escape(reason)}</li>"
        for label, reason in mattes.accuracy.failures.items()
    )
    return f'<ul class="failures">{lines}</ul>' if lines else ""


def _controls(report: Report, mattes: Mattes, ids: dict[str, str]) -> str:
    """What holds for all portraits."""
    names = {number: label for label, number in ids.items()}
    if mattes.accuracy.true_mattes:
        names[_TRUTH] = "true matte"
    names[_PHOTO] = "photograph"
    left, right = _first_pair(report, mattes, ids)
    views = {"composite": "Composite", "alpha": "Alpha"}
    backgrounds = {"check": "Chequered", "green": "Green", "white": "White", "black": "Black"}
    gains = {"1": "x 1", "4": "x 4", "16": "x 16", "64": "x 64"}
    return (
        '<div class="controls" role="group" aria-label="For all portraits">'
        f"{_select('left', 'Left', names, left)}{_select('right', 'Right', names, right)}"
        f"{_select('view', 'Show', views, 'composite')}{_select('background', 'Behind it', backgrounds, 'check')}"
        f"{_select('gain', 'Difference', gains, '16')}</div>"
    )


def _first_pair(report: Report, mattes: Mattes, ids: dict[str, str]) -> tuple[str, str]:
    reference = mattes.accuracy.reference or next(iter(ids))
    precisions = {row.label: row.precision for row in report.rows}
    order = {name: place for place, name in enumerate(_PREFERRED)}
    others = sorted((label for label in ids if label != reference), key=lambda n: order.get(precisions[n], len(order)))
    if others:
        return ids[reference], ids[others[0]]
    return (_TRUTH if mattes.accuracy.true_mattes else _PHOTO), ids[reference]


def _select(name: str, title: str, choices: dict[str, str], chosen: str) -> str:
    options = "".join(
        f'<option value="{value}"{" selected" if value == chosen else ""}>{escape(text)}</option>'
        for value, text in choices.items()
    )
    return f'<label>{title}<select id="{name}" autocomplete="off">{options}</select></label>'


def _figure(number: int, portrait: Portrait) -> str:
    name = escape(portrait.name)
    height, width = portrait.photo.shape[:2]
    return (
        f'<figure class="portrait" data-number="{number}" aria-labelledby="portrait-{number}">'
        f'<h3 id="portrait-{number}">{name}</h3>'
        '<div class="panes"><div class="pane">'
        f'<div class="stage"><canvas class="compare" width="{width}" height="{height}" tabindex="0" role="img" '
        f'aria-label="{name}: two mattes"></canvas><span class="tag left"></span><span class="tag right"></span></div>'
        '<input type="range" class="split" min="0" max="100" step="1" value="50" autocomplete="off" '
        f'aria-label="{name}: how much of the left matte is shown"></div>'
        f'<div class="pane"><div class="stage"><canvas class="difference" width="{width}" height="{height}" '
        f'tabindex="0" role="img" aria-label="{name}: difference"></canvas></div>'
        '<p class="key"><span class="more">right has more subject</span> <span class="less">right has less</span></p>'
        '</div></div><div class="tools"><button type="button" class="hair">Zoom into hair</button>'
        '<button type="button" class="whole">Whole picture</button>'
        '<label>Zoom<input type="range" class="zoom" min="1" max="12" step="0.1" value="1" autocomplete="off" '
        f'aria-label="{name}: zoom"></label><output class="zoomed">x 1.0</output></div>'
        f'<figcaption class="stats" aria-live="polite">{portrait.width} x {portrait.height} pixels</figcaption>'
        "</figure>"
    )


def _data(mattes: Mattes, ids: dict[str, str]) -> dict[str, Any]:
    return {
        "reference": ids.get(mattes.accuracy.reference or ""),
        "visible": VISIBLE,
        "portraits": [_portrait(portrait, ids) for portrait in mattes.portraits],
    }


def _portrait(portrait: Portrait, ids: dict[str, str]) -> dict[str, Any]:
    alphas = {ids[label]: _png(matte.alpha) for label, matte in portrait.mattes.items()}
    if portrait.truth is not None:
        alphas[_TRUTH] = _png(portrait.truth)
    return {
        "name": portrait.name,
        "size": [portrait.width, portrait.height],
        "detail": list(portrait.detail),
        "photo": _uri("jpeg", _encoded(".jpg", portrait.photo[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])),
        "alphas": alphas,
        "errors": {
            ids[label]: {"sad": m.sad, "difference": m.difference, "largest": m.largest, "visible": m.visible}
            for label, m in portrait.mattes.items()
        },
    }


def _png(alpha: NDArray[np.uint8]) -> str:
    return _uri("png", _encoded(".png", alpha, [cv2.IMWRITE_PNG_COMPRESSION, 9]))


def _encoded(kind: str, pixels: NDArray[np.uint8], settings: Sequence[int]) -> bytes:
    done, data = cv2.imencode(kind, np.ascontiguousarray(pixels), list(settings))
    assert done, kind
    return data.tobytes()


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
