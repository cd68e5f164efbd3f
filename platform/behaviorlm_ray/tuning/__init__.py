"""Tuning: a fixed step schedule run by Ray Train workers with DeepSpeed, resumable at any worker count."""
