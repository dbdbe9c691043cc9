"""Generated from `protos/inference/`: the Open Inference Protocol's messages. `make protos` makes it."""
