"""Where batches are computed; see ../engine.py."""
