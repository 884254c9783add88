"""Uses a finished run: prepares pictures as MNIST's 28 × 28, predicts, exports, and serves a page to draw on.

Preparation, and prediction with an exported .onnx file, work without torch."""
