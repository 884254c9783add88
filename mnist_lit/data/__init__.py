"""Bytes → verified files → tensors → batches on the device."""
