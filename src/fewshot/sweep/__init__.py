"""Many runs from one command: which of them are left to do, where each one runs, and what came of them."""
