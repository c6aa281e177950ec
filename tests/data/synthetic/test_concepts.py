import itertools

from richhf.data.synthetic import concepts
from richhf.data.words import split_words


def test_every_word_of_the_lexicon_stands_for_one_concept_only():
    words = [w for table in concepts.lexicon().values() for entry in table.values() for w in entry]
    assert len(words) == len(set(words))


def test_words_are_single_lower_case_and_fit_after_the_article_a():
    for category, table in concepts.lexicon().items():
        assert len(table) >= 2, category
        for word in itertools.chain(*table.values()):
            assert split_words(word) == (word,)
            assert word == word.lower()
            # `above`, `under` and the like never follow an article.
            assert word[0] not in "aeiou" or category == "relation_vertical"


def test_singular_and_plural_forms_pair_up():
    for singular, plural in concepts.SHAPES.values():
        assert len(singular) == len(plural)
        assert all(many.startswith(one) for one, many in zip(singular, plural, strict=True))
