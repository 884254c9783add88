"""A finished run at work: someone's picture → 28 × 28 as MNIST draws it → prediction; export; a page to draw on.

Preparation and prediction with an exported model need numpy, Pillow and onnxruntime alone."""
