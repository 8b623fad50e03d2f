"""What people run on a trained model."""
