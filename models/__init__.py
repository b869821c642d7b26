"""Backbones, heads, losses, memory and one file per method."""
