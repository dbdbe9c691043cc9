"""A model: its file, its metadata, its feature contract, and the order of its scores."""

from ranker.model.file import ModelFile
from ranker.model.model import Model

__all__ = ["Model", "ModelFile"]
