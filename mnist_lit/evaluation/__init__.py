"""How good a trained network is: test again, calibration, statistics, latency."""
