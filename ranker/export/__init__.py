"""XGBoost models to ONNX files, verified."""
