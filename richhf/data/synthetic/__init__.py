"""The synthetic set: rendered scenes with prompts, injected faults, simulated annotators and known truth."""

from richhf.data.synthetic.concepts import lexicon
from richhf.data.synthetic.sample import Sample, make_sample, pool
from richhf.data.synthetic.synthesize import synthesize

__all__ = ["Sample", "lexicon", "make_sample", "pool", "synthesize"]
