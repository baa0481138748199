"""Tests of controller/manifests, its schemas, its examples and its page."""
