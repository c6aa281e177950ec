import numpy as np

from richhf.data.synthetic import concepts
from richhf.data.synthetic.grammar import sample_mentions, write_prompt
from richhf.data.synthetic.scene import sample_scene
from richhf.data.synthetic.vocabulary import grammar_words
from richhf.data.words import split_words


def examples(number):
    for index in range(number):
        rng = np.random.default_rng([2, index])
        scene = sample_scene(rng)
        mentions = sample_mentions(rng, scene)
        yield scene, mentions, write_prompt(rng, scene, mentions), rng


def test_words_are_those_that_labels_attach_to():
    for _, _, prompt, _ in examples(300):
        assert split_words(prompt.text) == prompt.words
        assert len(prompt.words) == len(prompt.claims)
        assert prompt.text == prompt.text.lower()


def test_everything_mentioned_is_said_and_nothing_else():
    for _, mentions, prompt, _ in examples(300):
        assert {claim for claim in prompt.claims if claim is not None} == set(mentions)


def test_words_say_the_truth_of_a_faithful_scene():
    concept_of = {
        word: concept
        for table in concepts.lexicon().values()
        for concept, words in table.items()
        for word in words
    }
    for scene, _, prompt, _ in examples(300):
        for word, claim in zip(prompt.words, prompt.claims, strict=True):
            if claim is None or claim[0] in ("exclusive", "count"):
                continue
            attribute, index = claim
            shown = getattr(scene if index is None else scene.groups[index], attribute)
            assert concept_of[word] == shown


def test_phrasings_vary():
    scene, mentions, _, rng = next(examples(1))
    assert len({write_prompt(rng, scene, mentions).text for _ in range(50)}) > 10


def test_grammar_words_are_complete():
    known = set(grammar_words())
    for _, _, prompt, _ in examples(300):
        assert set(prompt.words) <= known
