"""Turns texts into vectors whose angle tells how alike the texts are."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Protocol

import numpy as np
import numpy.typing as npt

#: One row of float32 per text; each row has the length 1, or 0 for a text without words.
Matrix = npt.NDArray[np.float32]


class Embedder(Protocol):
    """What the app asks of anything that embeds texts."""

    @property
    def name(self) -> str:
        """Names the vector space: vectors of embedders with different names cannot be compared."""
        ...

    def embed(self, texts: Sequence[str]) -> Matrix:
        """Embeds each text.

        Raises:
            EmbeddingError: the texts could not be embedded; the message says why and what to do.
        """
        ...


class EmbeddingError(Exception):
    """The texts could not be embedded."""


def unit_rows(rows: npt.ArrayLike) -> Matrix:
    """Scales each row to length 1; a row of zeros stays as it is."""
    matrix = np.array(rows, dtype=np.float32)
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    matrix /= np.where(lengths > 0, lengths, 1)
    return matrix


#: Words that are in nearly every English text and so tell texts apart least. Inverse document frequency would
#: weigh them down, but needs a corpus to count in; this list needs none.
_COMMON = """the of and to a in is that it for as was with be by on not he i this are or his from at
which but have an had they you were their one all we can her has there been if more when will would who
so no out up into them then its only some could these two may other do than any my now such like our
over me even most after also did many before must through where much your way does how what why whom
about between each get should because while use used using"""
COMMON_WORDS = frozenset(_COMMON.split())
COMMON_WEIGHT = 0.05
#: The shares of a word's weight that its letter sequences have together: they match `parsing` with `parser`.
GRAM_WEIGHT = 0.5
GRAM_SIZES = (3, 4, 5)

_WORD = re.compile(r"\w+")
_Features = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]


class HashingEmbedder:
    """Embeds on this machine, with no model to download and no key, by hashing words and letter sequences.

    It finds texts that share words and word stems, in any language with spaces between words. It knows no
    synonyms and does not translate: a model behind `HttpEmbedder` does. Signed feature hashing is described
    in Weinberger et al., "Feature Hashing for Large Scale Multitask Learning" (2009); a word counts by the
    logarithm of how often it occurs.

    Args:
        dimensions: numbers per vector; with fewer, more words collide.
    """

    def __init__(self, dimensions: int = 1024) -> None:
        self.dimensions = dimensions

    @property
    def name(self) -> str:
        """Names the vector space."""
        return f"hashing-1-{self.dimensions}"

    def embed(self, texts: Sequence[str]) -> Matrix:
        """Embeds each text, at about a thousand texts of 200 words per second."""
        return unit_rows(np.stack([self._embed(text) for text in texts]))

    def _embed(self, text: str) -> npt.NDArray[np.float64]:
        counts = Counter(_WORD.findall(text.casefold()))
        if not counts:
            return np.zeros(self.dimensions)
        features = [_features(word, self.dimensions) for word in counts]
        places = np.concatenate([place for place, _ in features])
        damped = [1 + math.log(count) for count in counts.values()]
        weights = np.concatenate([share * times for (_, share), times in zip(features, damped, strict=True)])
        return np.bincount(places, weights, minlength=self.dimensions).astype(np.float64)


@lru_cache(maxsize=100_000)
def _features(word: str, dimensions: int) -> _Features:
    """Where a word counts in the vector, and how much."""
    if word in COMMON_WORDS:
        return _hashed([word], [COMMON_WEIGHT], dimensions)
    grams = _grams(f"<{word}>")
    shares = [1.0] + [math.sqrt(GRAM_WEIGHT / len(grams))] * len(grams) if grams else [1.0]
    return _hashed([word, *grams], shares, dimensions)


def _grams(word: str) -> list[str]:
    sizes = [size for size in GRAM_SIZES if size < len(word)]
    return [word[at : at + size] for size in sizes for at in range(len(word) - size + 1)]


def _hashed(features: Sequence[str], weights: Sequence[float], dimensions: int) -> _Features:
    hashes = [int.from_bytes(blake2b(feature.encode(), digest_size=8).digest()) for feature in features]
    signs = np.array([1.0 if value & 1 else -1.0 for value in hashes])
    return np.array([(value >> 1) % dimensions for value in hashes]), signs * np.array(weights)
