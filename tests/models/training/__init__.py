"""How the small models under tests/models are made: data, networks, ONNX export, fixtures, checks."""
