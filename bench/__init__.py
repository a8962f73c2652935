"""Benchmarks: real servers, real processes, nothing timed in a test."""
