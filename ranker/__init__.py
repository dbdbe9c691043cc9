"""Ranking server for XGBoost models: export, score, batch, serve."""
