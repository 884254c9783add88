"""Many runs → one leaderboard."""
