"""The leaderboard and its page."""
