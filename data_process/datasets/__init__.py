"""Dataset adapters, one file each: a source of videos to `SourceVideo`s."""
