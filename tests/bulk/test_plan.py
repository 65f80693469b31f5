"""What is done and what is left, by markers; one driver for an output; places that are none. Without Ray."""

import json
import os
import socket
from dataclasses import replace

import pytest

from p3m_edge.bulk.lease import LEASE, leased
from p3m_edge.bulk.plan import Item, make_plan
from p3m_edge.bulk.store import Store, address, is_remote, opened
from p3m_edge.errors import InputError, OutputError, UsageError

pytest.importorskip("fsspec", reason="fsspec is not installed: the extra ray")


@pytest.fixture
def item(tmp_path):
    (tmp_path / "in.jpg").write_bytes(b"content")
    return Item("in", (str(tmp_path / "in.jpg"),), (None,), (("in.alpha.png", "in.cutout.png"),))


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "out"))


def finish(store, item, settings="s"):
    for name in item.outputs[0]:
        store.write(name, b"result")
    store.write(item.marker(settings), b"")


def test_what_has_a_marker_and_its_results_is_done(store, item):
    assert make_plan(store, [item], "s", force=False).left == (item,)
    finish(store, item)
    plan = make_plan(store, [item], "s", force=False)
    assert (plan.left, plan.done, plan.gone) == ((), (item,), 0)


def test_same_path_and_size_prove_nothing(store, item, tmp_path):
    finish(store, item)
    before = (tmp_path / "in.jpg").stat()
    (tmp_path / "in.jpg").write_bytes(b"CONTENT")
    os.utime(tmp_path / "in.jpg", ns=(before.st_atime_ns, before.st_mtime_ns))
    store.write(".p3m-edge/bulk", b"")
    (left,) = make_plan(store, [item], "s", force=False).left
    assert set(left.stale) == {
        *item.outputs[0],
        *(n for n in store.names() if "done" in n),
    }  # they go before it is done


def test_a_result_that_is_gone_is_made_again(store, item):
    make_plan(store, [item], "s", force=False)
    finish(store, item)
    store.remove("in.cutout.png")
    assert [left.name for left in make_plan(store, [item], "s", force=False).left] == ["in"]


def test_a_list_that_changed_between_runs(store, item, tmp_path):
    make_plan(store, [item], "s", force=False)
    finish(store, item)
    (tmp_path / "in.png").write_bytes(b"another, whose results get the name")
    other = replace(item, inputs=(str(tmp_path / "in.png"),))
    new = replace(other, name="new", outputs=(("new.alpha.png",),))
    plan = make_plan(store, [other], "s", force=False)
    assert (len(plan.left), plan.done, plan.gone) == (1, (), 0)
    plan = make_plan(store, [new], "s", force=False)
    assert ([left.name for left in plan.left], plan.done, plan.gone) == (["new"], (), 1)


def test_other_settings_are_refused_and_force_replaces(store, item):
    make_plan(store, [item], "s", force=False)
    finish(store, item)
    with pytest.raises(UsageError, match="of another artefact or of other settings"):
        make_plan(store, [item], "other", force=False)
    assert len(make_plan(store, [item], "other", force=True).left) == 1
    assert len(make_plan(store, [item], "s", force=True).left) == 1


def test_results_of_who_knows_what_are_refused(store, item):
    store.write("in.alpha.png", b"somebody's")
    with pytest.raises(OutputError, match=r"without done-markers, such as in\.alpha\.png"):
        make_plan(store, [item], "s", force=False)
    assert store.read("in.alpha.png") == b"somebody's"


def test_two_drivers_on_one_output(store):
    with leased(store):
        with pytest.raises(OutputError, match=f"another driver works on .*process {os.getpid()} "), leased(store):
            pass
        assert store.exists(LEASE)
    assert not store.exists(LEASE)


def test_a_driver_that_was_killed_holds_nothing(store):
    store.write(LEASE, json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "born": 1.0}).encode())
    with leased(store) as lease:
        assert store.exists(LEASE)
        assert not lease.lost.is_set()


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff{", b'{"host": 3, "pid": "x"}'])
def test_a_damaged_lease_is_taken_when_nobody_renews_it(store, content, monkeypatch):
    monkeypatch.setattr("p3m_edge.bulk.lease.SECONDS", 0.5)
    store.write(LEASE, content)
    with leased(store):
        assert b'"key"' in (store.read(LEASE) or b"")


def test_addresses(tmp_path):
    from pathlib import Path

    assert address(Path("s3://bucket/a b.jpg")) == "s3://bucket/a b.jpg"
    assert address(Path("file:///tmp/x")) == "/tmp/x"
    assert not is_remote(tmp_path)
    assert not is_remote("C:/pictures")


def test_places_that_are_none(tmp_path):
    with pytest.raises(UsageError, match="not known"):
        opened("nonsense://bucket/x")
    with pytest.raises(UsageError, match="memory://, where files are not whole at once"):
        Store("memory://x")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"):
        Store(str(tmp_path / "file")).write("x", b"")
    with pytest.raises(InputError):
        Item("in", (str(tmp_path / "none.jpg"),), (None,), ()).marker("s")
