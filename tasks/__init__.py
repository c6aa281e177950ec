"""SeqIO tasks: one module per data set. Importing such a module registers its tasks.

* `tasks.synthetic`: `synthetic_multi_head`, `synthetic_augmented_prompt` over the set that `richhf
  synthesize` writes.
* `tasks.richhf18k`: `richhf18k_multi_head`, `richhf18k_augmented_prompt` over what `richhf prepare` writes.
* `tasks.captioning`: `captions_multi_head`, `captions_augmented_prompt` over TFDS or record files, for
  pretraining; `mixture` mixes them with the others.

What they share, in the order in which an example meets it: `sources` (records), `corruption` (prompts changed
on purpose, in training), `preprocessors` (labels, tokens), `pictures` (arrays of the sides asked for),
`augmentation` (pictures changed by chance, in training), `registration` (the tasks put together), `metrics`.
How a task string is put before a prompt is said in `richhf.data.prompts`, as inference needs it too.
"""
