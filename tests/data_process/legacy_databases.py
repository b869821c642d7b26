"""Databases as the converters of CoCLR and CSTP write them, and damaged ones."""

import lmdb
import msgpack

from tests.sample_videos import jpegs

VIDEOS = {
    "Archery/v_Archery_g01_c01": jpegs(0, frames=9),
    "ApplyEyeMakeup/v_é_1": jpegs(1, frames=24),
    "ApplyEyeMakeup/v_[2]": jpegs(2, frames=17),
    "Baby Crawling/v_3": jpegs(3, frames=12),
}


def packed(value, *, old):
    """As msgpack before 1.0 wrote it: one raw type for names, keys and pictures."""
    return msgpack.packb(value, use_bin_type=not old)


def write_legacy(path, videos=None, *, folder=False, old=False, order=True, lengths=None, skip=(), sparse=False):
    """The converters' own way: numbers by position in the shuffled order, special lists by class and name."""
    videos = VIDEOS if videos is None else videos
    # CoCLR asks for 2 TB; written through the map, the file itself is as large, but hardly any of it is there.
    map_size = 1 << 36 if sparse else 1 << 24 if folder else 2 * 10**12
    env = lmdb.open(str(path), subdir=folder, map_size=map_size, lock=False, writemap=sparse)
    names = list(videos)
    numbers = {name: f"{number:09d}".encode() for number, name in enumerate(names)}
    by_class = sorted(names)
    with env.begin(write=True) as txn:
        for name, frames in videos.items():
            if name not in skip:
                txn.put(numbers[name], packed(frames, old=old))
        txn.put(b"__keys__", packed([numbers[name] for name in by_class], old=old))
        txn.put(b"__len__", packed(len(names), old=old))
        if order:
            txn.put(b"__order__", packed(names, old=old))
        counted = lengths or [len(videos[name]) for name in by_class]
        txn.put(b"__vlen__", packed(counted, old=old))
    env.close()
    return path


def overwrite(path, **values):
    """Put raw values under keys of a database (in the form `_1` for the entry 000000001); None removes one."""
    env = lmdb.open(str(path), subdir=path.is_dir(), map_size=1 << 24, lock=False)
    with env.begin(write=True) as txn:
        for name, value in values.items():
            key = f"{int(name[1:]):09d}" if name[1:].isdecimal() else name
            txn.delete(key.encode()) if value is None else txn.put(key.encode(), value)
    env.close()
    return path
