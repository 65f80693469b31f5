"""What went into an artefact, as others read it: an inventory in CycloneDX's JSON (a bill of materials, ML-BOM).

The network with its licence and the hash of its weights, every file with its hash, the sets of pictures that it was
calibrated and measured with, and the packages that made it. The extra ``sign`` brings what this module needs.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Mapping

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from p3m_edge.manifest import Manifest, encode
from p3m_edge.manifest_schema import PicturesRecord

_PREFIX = "p3m-edge:"


def inventory(manifest: Manifest) -> bytes:
    """The inventory of an artefact: an indented JSON document of CycloneDX 1.6.

    It is the same for the same manifest, but for the time at which it was made.
    """
    network = _network(manifest)
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_OID, encode(manifest).decode()))
    bom.metadata.component = network
    parts = [*_files(manifest), *_pictures(manifest), *_packages(manifest)]
    for part in parts:
        bom.components.add(part)
    bom.register_dependency(network, parts)
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"


def _network(manifest: Manifest) -> Component:
    model, gate = manifest.model, manifest.parity
    facts = {
        "target": manifest.target, "precision": manifest.precision, "engine": manifest.engine.name,
        "oldest engine": manifest.engine.minimum_version, "parameters": model.parameters,
        "trained": model.trained, "verified": manifest.verified.level,
        "parity": "not recorded" if gate is None else "passed" if gate.passed else "failed",
    }  # fmt: skip
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        name=f"P3M-Net {model.arch}",
        version=model.checkpoint_sha256[:16] or None,
        description=model.provenance or None,
        licenses=[LicenseFactory().make_from_string(model.licence)] if model.licence else None,
        hashes=_hashes(model.checkpoint_sha256),
        properties=_properties(facts),
        bom_ref="network",
    )


def _files(manifest: Manifest) -> Iterator[Component]:
    for name, file in manifest.files.items():
        yield Component(
            type=ComponentType.FILE, name=name, hashes=_hashes(file.sha256),
            properties=_properties({"bytes": file.bytes}), bom_ref=f"file:{name}",
        )  # fmt: skip


def _pictures(manifest: Manifest) -> Iterator[Component]:
    made = manifest.quantization
    sets: dict[str, PicturesRecord | None] = {"looked at": manifest.looked_at}
    if made is not None:
        sets |= {"calibration": made.calibration, "measuring": made.measuring}
    for name, record in sets.items():
        if record is not None:
            facts = {"pictures": record.pictures, "kind": record.kind, "seed": record.seed}
            yield Component(
                type=ComponentType.DATA, name=record.source or name, description=f"{name} pictures",
                hashes=_hashes(record.digest), properties=_properties(facts), bom_ref=f"pictures:{name}",
            )  # fmt: skip


def _packages(manifest: Manifest) -> Iterator[Component]:
    for name, version in {"p3m-edge": manifest.p3m_edge, **manifest.engine.versions}.items():
        yield Component(
            type=ComponentType.LIBRARY, name=name, version=version or None,
            purl=PackageURL("pypi", name=name, version=version or None), bom_ref=f"package:{name}",
        )  # fmt: skip


def _hashes(sha256: str) -> list[HashType] | None:
    return [HashType(alg=HashAlgorithm.SHA_256, content=sha256)] if re.fullmatch("[0-9a-f]{64}", sha256) else None


def _properties(facts: Mapping[str, object]) -> list[Property]:
    return [Property(name=_PREFIX + name, value=str(value)) for name, value in facts.items()]
