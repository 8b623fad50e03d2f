"""Pictures in: verified, converted, split."""
