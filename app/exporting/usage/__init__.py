"""What travels with an exported file as predict.py, for SavedModels and for the others: it imports nothing of ours."""
