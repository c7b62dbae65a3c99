"""Turns pretrained models and text into what amalgam reads. `python -m amalgam_export --help`, docs/export.md."""
