"""SeqIO tasks: one module per data set. Importing such a module registers its tasks.

* `tasks.synthetic`: `synthetic_multi_head`, `synthetic_augmented_prompt` over the set that `richhf
  synthesize` writes.

What they share, in the order in which an example meets it: `sources` (records), `corruption` (prompts changed
on purpose, in training), `preprocessors` (pictures, labels, tokens), `registration` (the tasks put together),
`metrics`. This is the only room that knows how a task string is put before a prompt.
"""
