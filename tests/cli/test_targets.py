"""The table of targets on the command line."""

import json

from p3m_edge.cli import main
from p3m_edge.targets import TARGETS


def test_table_and_document_name_every_target(capsys):
    assert main(["targets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for target in TARGETS.values():
        line = next(line for line in lines if line.split()[:1] == [target.name])
        assert ("experimental" in line) == target.experimental
    assert main(["--json", "targets"]) == 0
    rows = json.loads(capsys.readouterr().out)["targets"]
    assert [row["name"] for row in rows] == list(TARGETS)
    assert all(row["limits"] for row in rows)
