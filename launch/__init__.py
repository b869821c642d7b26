"""The `intravid` command: composes the parts."""
