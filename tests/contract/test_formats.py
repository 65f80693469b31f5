"""What every model format must do: one class, run once for each; and what it takes to add another one."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from p3m_edge import manifest as manifests
from p3m_edge import shipped, targets
from p3m_edge.errors import UsageError
from p3m_edge.export import ExportRequest, StageEvent, export, formats, parity, plan
from p3m_edge.export.calibration import MINIMUM
from p3m_edge.export.formats import FORMATS, Format, format_of
from p3m_edge.export.pipeline import STAGES, stages_of
from p3m_edge.export.session import ExportSession
from p3m_edge.imageio import write_png
from p3m_edge.manifest import problems
from p3m_edge.runtimes.engines.tensorrt.options import BuildOptions
from p3m_edge.targets import TARGETS, Target
from tests.contract import sketch
from tests.contract.sketch.format import EIGHT, ENGINE, SINGLE
from tests.portraits import portrait, write_set

SIDE = 64
SLOW = dict.fromkeys(("coreai", "litert"), pytest.mark.full)  # their converters take long


@pytest.fixture(scope="module", params=[pytest.param(name, marks=SLOW.get(name, ())) for name in FORMATS])
def engine(request: pytest.FixtureRequest) -> str:
    """The engine that a format is for."""
    name: str = request.param
    for module in targets_of(name)[0].build_modules:
        pytest.importorskip(module)
    return name


def targets_of(engine: str) -> list[Target]:
    return [target for target in TARGETS.values() if target.engine == engine]


def plainest(engine: str) -> Target:
    """The target that is closest to the network."""
    return targets_of(engine)[0]


def request_for(target: Target, out: Path = Path("unused"), **options: Any) -> ExportRequest:
    given: dict[str, Any] = {"checkpoint": shipped.weights_path(), "width": SIDE, "height": SIDE}
    given |= {"engine": BuildOptions(flavour="tensorrt")} | options
    return ExportRequest((target.name,), out, **given)


@pytest.fixture(scope="module")
def session() -> ExportSession:
    return ExportSession(request_for(TARGETS["onnx-fp32"]))


@pytest.fixture(scope="module")
def another() -> ExportSession:
    return ExportSession(request_for(TARGETS["onnx-fp32"], checkpoint=None, arch="mobile"))


@pytest.fixture(scope="module")
def built(
    engine: str, session: ExportSession, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Format, manifests.Manifest, Path]:
    """The model file of the plainest target."""
    found, target, folder = format_of(engine), plainest(engine), tmp_path_factory.mktemp(engine)
    description = found.build(session, target, folder)
    return found, found.describe(session, target, description, folder), folder


@pytest.mark.parametrize("engine", FORMATS)
class TestRequest:
    """What needs no package of the format."""

    def test_its_stages_are_those_of_all_and_its_own(self, engine: str) -> None:
        for target in targets_of(engine):
            stages = stages_of(target, request_for(target))
            assert (stages[: len(STAGES)], stages[-1]) == (STAGES, "seal")
            assert len(set(stages)) == len(stages)

    def test_what_it_cannot_do_is_said_before_anything_is_made(self, engine: str) -> None:
        found = format_of(engine)
        for target in targets_of(engine):
            found.check(target, request_for(target))
            found.check(target, request_for(target, outputs="alpha"))
            refused: dict[str, tuple[dict[str, Any], bool]] = {
                "native unpooling": ({"unpool": "native"}, not found.native_unpooling),
                "several sizes": ({"more_sizes": ((96, 64),)}, not found.has_functions or target.needs_calibration),
                "a state": ({"smoothing": 0.3}, not found.has_functions or target.needs_calibration),
                "a batch": ({"batch": 2}, found.single_frame),
                "an open size": ({"dynamic": True}, found.single_frame or engine == "tensorrt"),
            }  # fmt: skip
            for what, (options, expected) in refused.items():
                raised: UsageError | None = None
                try:
                    found.check(target, request_for(target, **options))
                except UsageError as error:
                    raised = error
                assert (raised is not None) == expected, f"{target.name}: {what}"

    def test_a_request_without_it_may_leave_all_of_it_out(self, engine: str) -> None:
        other = next(target for target in TARGETS.values() if target.engine != engine)
        format_of(engine).check_unused(request_for(other))


class TestFormat:
    def test_what_it_needs(self, engine: str) -> None:
        found = format_of(engine)
        for target in targets_of(engine):
            request = request_for(target, calibration_count=MINIMUM)
            assert 0 <= found.overflow_pictures(target, request) <= MINIMUM
            found.check_builder(request)
        eight = [target for target in targets_of(engine) if target.needs_calibration]
        if eight and type(found).float_reference is Format.float_reference:
            assert targets.get(found.float_target).precision == "fp32"

    def test_it_writes_what_it_describes(self, built: tuple[Format, manifests.Manifest, Path]) -> None:
        _, manifest, folder = built
        assert list(problems(manifest)) == []
        assert manifest.files == manifests.record_files(folder)
        written = manifest.model_file if manifest.engine.status == "built" else manifests.TYPED
        assert any(name.split("/")[0] == written for name in manifest.files)
        assert manifest.verified.level in ("device", "program", "typed")
        assert [output.name for output in manifest.outputs] == ["alpha", "local_alpha", "global_logits"]
        assert not [path for path in folder.iterdir() if path.name.startswith(".")]

    def test_the_gate_knows_its_network_from_another(
        self, built: tuple[Format, manifests.Manifest, Path], session: ExportSession, another: ExportSession
    ) -> None:
        """Opened as it is verified, on all parity pictures."""
        _, manifest, folder = built
        limits = targets.get(manifest.target).limits
        record = parity.check(session, manifest, folder, limits, ())
        assert record.failures == ()
        assert len(record.items) == 2
        other = parity.check(another, manifest, folder, limits, ())
        assert not other.passed
        assert other.failures


def test_every_target_has_a_format() -> None:
    assert {target.engine for target in TARGETS.values()} == set(FORMATS)


@pytest.mark.parametrize("module", ["pipeline", "parity", "quantize.search",
    "quantize.calibration", "quantize.resume", "quantize.accuracy", "quantize.sensitivity"])  # fmt: skip
def test_what_formats_share_names_no_engine(module: str) -> None:
    """Neither in a text of the code nor by an import: comments and docstrings may."""
    spec = importlib.util.find_spec(f"p3m_edge.export.{module}")
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in prose]
    names = [node.value for node in constants if isinstance(node.value, str)]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    engine = re.compile(r"onnxruntime|openvino|coreml|coreai|litert|tensorrt|nncf", re.IGNORECASE)
    assert [name for name in names if engine.search(name)] == []


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another format: its folder is ``tests/contract/sketch``, and these are its rows."""
    monkeypatch.setitem(formats.FORMATS, ENGINE, f"{sketch.__name__}.format")
    for target in (SINGLE, EIGHT):
        monkeypatch.setitem(TARGETS, target.name, target)


@pytest.mark.usefixtures("added")
def test_a_new_format_is_a_folder_and_a_row(tmp_path: Path) -> None:
    """It is planned, built, held against the network, given its own stage, and sealed, by what is there already."""
    told: list[StageEvent] = []
    (planned,) = plan(request_for(SINGLE, tmp_path))
    assert planned.stages == (*STAGES, "label", "seal")
    (result,) = export(request_for(SINGLE, tmp_path), told.append)
    assert (result.status, result.parity.failures) == ("verified", ())
    manifest = manifests.read(result.folder)
    manifests.check_files(manifest, result.folder)
    assert (manifest.engine.name, manifest.verified.level) == (ENGINE, "device")
    assert (result.folder / "label.txt").read_text() == SINGLE.name
    assert [event.text for event in told if event.state == "note"] == ["a label for mobile"]
    with pytest.raises(UsageError, match="one image at a time"):
        plan(request_for(SINGLE, tmp_path / "other", batch=2))


@pytest.mark.usefixtures("added")
def test_the_search_for_8_bits_finds_its_candidates(tmp_path: Path) -> None:
    """The first one moves alpha too far, and the second one passes; without mattes, that is what is measured.

    Stand-in weights see something in any picture.
    """
    pictures = [portrait(SIDE, SIDE, seed=seed) for seed in range(MINIMUM + 2)]
    (tmp_path / "measuring").mkdir()
    for picture in pictures[MINIMUM:]:
        write_png(tmp_path / "measuring" / f"{picture.name}.png", picture.image)
    request = request_for(
        EIGHT, tmp_path / "out", checkpoint=None, arch="mobile", outputs="alpha", max_drop=0.5,
        calibration_count=MINIMUM,
        calibration=write_set(tmp_path / "calibration", pictures[:MINIMUM]),
        measuring=tmp_path / "measuring",
    )  # fmt: skip
    (result,) = export(request)
    record = result.quantization
    assert record is not None
    assert (record.form, record.chosen) == ("rounding", "fine")
    assert [rung.name for rung in record.rungs] == ["coarse", "fine"]
    coarse, fine = record.rungs
    assert "alpha differs" in " ".join(coarse.failures)
    assert fine.failures == ()
    assert fine.speed is not None
    assert result.status == "verified"


@pytest.mark.usefixtures("added")
def test_a_new_format_that_fails_is_refused_as_all_are(tmp_path: Path) -> None:
    limits = dict.fromkeys(("local_mean", "pixel_tolerance", "pixel_share", "flips"), 0.0)
    unmeetable = dataclasses.replace(SINGLE, limits=dataclasses.replace(SINGLE.limits, alpha_mean=-1.0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TARGETS, SINGLE.name, unmeetable)
        (result,) = export(request_for(SINGLE, tmp_path, limits=limits))
    assert (result.status, result.folder.name) == ("rejected", f"{SINGLE.name}.rejected")
    assert not (result.folder / "label.txt").exists()  # what comes after parity is for what passed
    assert [stage.name for stage in result.stages] == [*STAGES, "seal"]
