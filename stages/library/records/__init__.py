"""TFRecord in and out."""
