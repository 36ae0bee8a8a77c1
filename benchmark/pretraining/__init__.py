"""Pretraining of the bundled backbones on procedurally generated images, reproducible to the byte."""
