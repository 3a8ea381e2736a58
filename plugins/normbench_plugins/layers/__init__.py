"""Modules that norms are made of. Unlike the descriptions beside this folder, these import torch."""
