"""Trainings on several hosts: what starts them, and the hosts of this machine."""
