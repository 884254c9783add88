"""Many runs → one leaderboard, or two runs → one comparison."""
