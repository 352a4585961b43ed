"""Many runs: by one command, and side by side."""
