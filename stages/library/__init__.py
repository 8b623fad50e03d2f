"""What the stages share: imported, never run."""
