"""Images in: verified, converted, split."""
