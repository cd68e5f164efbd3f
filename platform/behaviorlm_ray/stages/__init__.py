"""Stages and their commit protocol: run once, commit, plan, reuse."""
