"""Attacks on the sandbox, and how they are run."""
