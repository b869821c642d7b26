"""YAML recipes; nothing here imports the rest."""
