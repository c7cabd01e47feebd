"""Compares what runs left behind: parity, throughput, reports. Starts trainers as processes and reads files."""
