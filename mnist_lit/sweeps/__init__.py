"""Many runs from one command: grids and searches."""
