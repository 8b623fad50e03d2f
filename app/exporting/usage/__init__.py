"""What travels with an exported file as predict.py, one file for each format: it imports nothing of this project."""
