"""Folders of empty files with the names of a dataset."""

from pathlib import Path

from data_process.source import SourceListing, SourceRequest, read_source

ANNOTATIONS = Path(__file__).resolve().parents[4] / "shared" / "data" / "annotations"


def touched(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    root.mkdir(exist_ok=True)
    return root


def listing(dataset, root, annotations=(), **options) -> SourceListing:
    given = tuple((None, one) if isinstance(one, Path) else one for one in annotations)
    return read_source(dataset, SourceRequest(root, annotations=given, **options))


def rows(found: SourceListing):
    return [(video.id, video.class_name, video.split) for video in found.videos]


def missing(found: SourceListing):
    return [str(one["id"]) for one in found.missing]
