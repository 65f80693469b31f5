"""Tables of an evaluation, for the terminal and for Markdown from one description, and the files of ``--out``."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator

from p3m_edge.evaluate.results import MEASURES, Evaluation, Mean, PairedDifference, SetResult
from p3m_edge.table import NONE, Table

_MATRIX = ("SAD", "MSE", "MAD", "SAD_FACE")
_TITLES = {"SAD_TRIMAP": "SAD unknown", "MSE_TRIMAP": "MSE unknown", "MAD_TRIMAP": "MAD unknown"}
_PER_PIXEL = ("MSE", "MAD")


def tables(evaluation: Evaluation) -> Iterator[Table]:
    """The summary, the PPT matrix and what it says of the same pictures, if there is one, and what failed."""
    yield _summary(evaluation.results)
    if paired := [result for result in evaluation.results if result.pair]:
        yield _ppt(paired)
    if evaluation.differences:
        yield _differences(evaluation.differences)
    failed = tuple(
        (result.method.name, result.protocol.set_name, failure.picture, failure.reason)
        for result in evaluation.results
        for failure in result.failures
    )
    if failed:
        yield Table("Pictures that failed", ("method", "set", "picture", "why"), failed)


def protocols(evaluation: Evaluation) -> Iterator[str]:
    """How each result came about, one line each."""
    for result in evaluation.results:
        empty = sum(picture.empty for picture in result.pictures)
        nobody = f"; all background in {empty} of {len(result.pictures)} pictures" if empty else ""
        yield f"{title(result)}: {result.protocol.sentence}{nobody}"


def title(result: SetResult) -> str:
    """The method's name, with a warning where its weights are not trained."""
    return result.method.name + ("" if result.method.trained else " (NOT TRAINED)")


def markdown(evaluation: Evaluation) -> str:
    """Everything but the single pictures, as Markdown."""
    parts = ["# Evaluation", f"p3m-edge {evaluation.version}", "\n".join(f"- {line}" for line in protocols(evaluation))]
    parts += [f"**{table.title}**\n\n{table.markdown()}" for table in tables(evaluation)]
    for result in evaluation.results:
        if result.worst is not None:
            parts.append(f"Worst of {title(result)} on {result.protocol.set_name}:\n\n![worst]({result.worst})")
    return "\n\n".join(parts) + "\n"


def pictures_csv(evaluation: Evaluation) -> bytes:
    """One line for every picture and route, UTF-8; a picture that failed has its reason in the last column."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(("method", "set", "picture", "route", "width", "height", "seconds", *MEASURES, "error"))
    for result in evaluation.results:
        what = (result.method.name, result.protocol.set_name)
        for p in result.pictures:
            for route in result.protocol.routes:
                figures = [f"{p.scores[route][m]:.8g}" if m in p.scores[route] else "" for m in MEASURES]
                out.writerow((*what, p.picture, route, p.width, p.height, p.seconds, *figures, ""))
        for failure in result.failures:
            out.writerow((*what, failure.picture, *[""] * (4 + len(MEASURES)), failure.reason))
    return text.getvalue().encode("utf-8", "backslashreplace")


def figure(measure: str, mean: Mean | None) -> str:
    """A mean as publications print it: thousands with three decimals, values per pixel with five."""
    if mean is None:
        return NONE
    return f"{mean.value:.5f}" if measure.startswith(_PER_PIXEL) else f"{mean.value:.3f}"


def _rows(results: Iterable[SetResult], measures: Iterable[str]) -> Iterator[tuple[SetResult, tuple[str, ...]]]:
    """A row for each route of each result."""
    for result in results:
        for route, found in result.means.items():
            figures = (figure(measure, found.get(measure)) for measure in measures)
            yield result, (title(result), result.protocol.set_name, route, str(len(result.pictures)), *figures)


def _summary(results: Iterable[SetResult]) -> Table:
    found = {measure for result in results for means in result.means.values() for measure in means}
    shown = [measure for measure in MEASURES if measure in found]
    columns = ("method", "set", "route", "pictures", *(_TITLES.get(name, name.replace("_", " ")) for name in shown))
    return Table("Means over the pictures", columns, tuple(row for _, row in _rows(results, shown)))


def _ppt(results: Iterable[SetResult]) -> Table:
    rows = sorted(((result.pair or "", *row) for result, row in _rows(results, _MATRIX)), key=lambda row: row[0])
    columns = ("training:test", "method", "set", "route", "pictures", *(name.replace("_", " ") for name in _MATRIX))
    return Table("Privacy-preserving training (B: blurred faces, N: normal ones)", columns, tuple(rows))


def _differences(differences: tuple[PairedDifference, ...]) -> Table:
    def cells(one: PairedDifference) -> tuple[str, str]:
        if one.relative is None or one.interval is None:
            return NONE, NONE
        return f"{one.relative:+.1%}", "{:+.1%} to {:+.1%}".format(*one.interval)

    rows = tuple(
        (one.training, one.method, one.route, one.measure.replace("_", " "), str(one.pictures),
         f"{one.blurred:.3f}", f"{one.normal:.3f}", *cells(one))
        for one in differences
    )  # fmt: skip
    columns = ("training", "method", "route", "figure", "pictures", "B", "N", "N - B", "95 % interval")
    return Table("The same pictures, their faces blurred (B) and normal (N)", columns, rows)
