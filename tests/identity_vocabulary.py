"""A vocabulary for tests that does not change a text."""

import itertools

from richhf.data.targets import Segmentation


class IdentityVocabulary:
    """Takes its tokens from `encode`, and the text of tokens from `surface`."""

    def __init__(self, encode=lambda text: list(map(ord, text)), surface=lambda ids: "", eos_id=1):
        self.encode, self.surface, self.eos_id = encode, surface, eos_id

    def segment(self, text):
        places = [*range(len(text) + 1)]
        return Segmentation(ids=self.encode(text), text=text, masked=text, offsets=places, lengths=[])

    def decode(self, ids):
        return self.surface([*itertools.takewhile(lambda i: i not in (0, self.eos_id), ids)])
