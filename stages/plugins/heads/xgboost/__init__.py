"""The XGBoost head."""
