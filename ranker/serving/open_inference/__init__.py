"""The Open Inference Protocol, version 2, and what Triton has beside it, over gRPC."""
