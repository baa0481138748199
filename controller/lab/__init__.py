"""Simulated machines and the site made of them."""
