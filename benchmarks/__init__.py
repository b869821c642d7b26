"""Speed of each stage, measured side by side with the plain way and with the originals' way: `intravid bench`."""
