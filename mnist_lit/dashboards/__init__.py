"""Lightning callbacks that fill TensorBoard, each one switched in `conf/callbacks`."""
