import os

import lmdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_process.lmdb_pages import PageFormatError, read_layout, read_transaction


def write(path, values, *, lib_version=0, commits=1):
    path.unlink(missing_ok=True)
    engine = {"lib_version": lib_version} if int(lmdb.__version__.split(".")[0]) >= 3 else {}
    env = lmdb.open(str(path), subdir=False, map_size=64 << 20, lock=False, **engine)
    keys = sorted(values)
    for part in range(commits):
        with env.begin(write=True) as txn:
            for key in keys[part::commits]:
                txn.put(key, values[key])
    env.close()
    return path


def sample(count=60):
    return {f"{number:012d}".encode(): bytes([number]) * (37 * number * number % 20011) for number in range(count)}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.dictionaries(st.binary(min_size=1, max_size=60), st.integers(0, 12_000), min_size=1, max_size=150),
    commits=st.integers(1, 3),
)
def test_every_value_lies_where_lmdb_says_it_does(tmp_path, values, commits):
    content = {key: (key * (length // len(key) + 1))[:length] for key, length in values.items()}
    path = write(tmp_path / "file.lmdb", content, commits=commits)
    layout = read_layout(path)
    assert list(layout.values) == sorted(content)
    with lmdb.open(str(path), subdir=False, readonly=True, lock=False) as env, env.begin() as txn:
        data = path.read_bytes()
        for key, (offset, length) in layout.values.items():
            assert data[offset : offset + length] == txn.get(key)
        assert layout.transaction == env.info()["last_txnid"]
        assert layout.file_size == (env.info()["last_pgno"] + 1) * 4096


def test_an_empty_file_of_lmdb_has_no_values(tmp_path):
    assert read_layout(write(tmp_path / "file.lmdb", {})).values == {}


def test_every_write_changes_the_transaction(tmp_path):
    path = write(tmp_path / "file.lmdb", {b"a": b"1"})
    with path.open("rb") as file:
        before = read_transaction(file.fileno())
    with lmdb.open(str(path), subdir=False, map_size=64 << 20, lock=False) as env, env.begin(write=True) as txn:
        txn.put(b"a", b"2")
    with path.open("rb") as file:
        assert read_transaction(file.fileno()) == before + 1


@pytest.mark.skipif(int(lmdb.__version__.split(".")[0]) < 3, reason="needs lmdb 3 to write the newer format")
def test_the_newer_file_format_is_refused_by_name(tmp_path):
    with pytest.raises(PageFormatError, match="format 3"):
        read_layout(write(tmp_path / "file.lmdb", sample(), lib_version=1))


def last_page_missing(path):
    os.truncate(path, read_layout(path).file_size - 4096)


def tail_missing(path):
    os.truncate(path, path.stat().st_size * 6 // 10)


def meta_pages_zeroed(path):
    path.write_bytes(bytes(8192) + path.read_bytes()[8192:])


DAMAGE = {
    "too few": lambda path: os.truncate(path, 0),
    "wrong magic": meta_pages_zeroed,
    "cut short": tail_missing,
    "its pages need": last_page_missing,
    "not an LMDB file": lambda path: path.write_bytes(b"RIFF" + bytes(100_000)),
    "missing": lambda path: os.truncate(path, 4096),
}


@pytest.mark.parametrize("named", DAMAGE)
def test_damage_is_named(tmp_path, named):
    path = write(tmp_path / "file.lmdb", sample())
    DAMAGE[named](path)
    with pytest.raises(PageFormatError, match=named):
        read_layout(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_garbage_in_any_page_ends_in_a_layout_or_a_named_error(tmp_path, data):
    path = tmp_path / "file.lmdb"
    if not path.exists():
        write(path, {f"{number:012d}".encode(): bytes(number % 900) for number in range(300)}, commits=2)
    content = bytearray(path.read_bytes())
    start = data.draw(st.integers(0, len(content) - 8))
    content[start : start + 8] = data.draw(st.binary(min_size=8, max_size=8))
    damaged = tmp_path / "damaged.lmdb"
    damaged.write_bytes(content)
    try:
        layout = read_layout(damaged)
    except PageFormatError:
        return
    assert all(offset + length <= len(content) for offset, length in layout.values.values())


def test_a_page_that_points_at_itself_does_not_end_in_a_loop(tmp_path):
    path = write(tmp_path / "file.lmdb", {f"{number:012d}".encode(): bytes(500) for number in range(300)})
    content = bytearray(path.read_bytes())
    branches = [page for page in range(2, len(content) // 4096) if content[4096 * page + 10] & 1]
    for page in branches:
        first = int.from_bytes(content[4096 * page + 16 : 4096 * page + 18], "little")
        content[4096 * page + first : 4096 * page + first + 6] = page.to_bytes(6, "little")
    path.write_bytes(content)
    assert branches
    with pytest.raises(PageFormatError, match="twice"):
        read_layout(path)
